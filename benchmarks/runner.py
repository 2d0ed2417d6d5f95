"""A contender in a run: how to install, start and check it."""

from dataclasses import dataclass
from typing import Any

from benchmarks import answers
from benchmarks.case import Case
from benchmarks.installation import Installation, InstallationError
from benchmarks.plan import Plan
from benchmarks.results import Entrant
from benchmarks.server import Server


@dataclass(frozen=True)
class Runner:
    """Starts a contender on its port."""

    installation: Installation
    plan: Plan
    port: int
    database: str

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.installation.contender.name

    @property
    def cases(self) -> dict[str, Case]:
        """The cases of the plan that it takes part in."""
        cases = self.installation.contender.cases
        return {name: case for name, case in cases.items() if name in self.plan.cases}

    def start(self, **options: Any) -> Server:
        """Return a server that is not started yet."""
        return Server(self.installation, self.port, database=self.database, **options)

    def entrant(self) -> Entrant:
        """Install, start and check the contender; raise what keeps it from taking part."""
        contender = self.installation.contender
        if contender.missing:
            names = " ".join(contender.missing)
            raise InstallationError(f"not installed: {names} (on Debian: apt-get install {names})")
        self.installation.make()
        with self.start() as server:
            checked = {name: answers.check(self.port, case) for name, case in self.cases.items()}
        return Entrant(
            name=contender.name,
            title=contender.title,
            kind=contender.declaration.kind,
            folder=contender.folder.name,
            command=server.command,
            versions=self.installation.versions(),
            answers={name: response.size for name, response in checked.items()},
        )
