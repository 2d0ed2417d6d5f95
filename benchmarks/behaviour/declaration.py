"""Who takes part: what each folder's contender.toml says, and where it is installed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks import contender
from benchmarks.installation import Installation

HERE = Path(__file__).parent
FOLDER = HERE / "contenders"
OURS = "api_hour"


class Declaration(contender.Declaration, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold the table of a contender.toml, whose commands may have {tcp} and {udp} as well.

    ``application`` is its file in ``applications``, ``beside`` what lies there too. ``reload`` is
    a signal, or a command in that folder. ``several`` starts it with three protocols, ``metrics``
    with Prometheus metrics on the port {tcp}, where lines that match ``counter`` count requests.
    """

    cases: list[str] = msgspec.field(default_factory=list)
    workers: int = 2
    application: str
    beside: tuple[str, ...] = ()
    reload: str = "HUP"
    several: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    counter: str = ""
    help: list[str]


@dataclass(frozen=True)
class Entrant:
    """Hold one server that takes part."""

    name: str
    declaration: Declaration
    installation: Installation


def discover(venvs: Path, names: Iterable[str] = (), *, here: bool = False) -> list[Entrant]:
    """Return every entrant, or the named ones, ours first; for ``here`` see Installation."""
    files = sorted(FOLDER.glob("*/contender.toml"), key=lambda one: (one.parent.name != OURS, one))
    entrants = {}
    for file in files:
        for name, found in msgspec.toml.decode(
            file.read_bytes(), type=dict[str, Declaration]
        ).items():
            whole = contender.Contender(name, file.parent, found)
            entrants[name] = Entrant(name, found, Installation(whole, venvs, here=here))
    for name in names:
        if name not in entrants:
            raise LookupError(f"no server is named {name!r}: there are {', '.join(entrants)}")
    return [one for one in entrants.values() if not names or one.name in names]
