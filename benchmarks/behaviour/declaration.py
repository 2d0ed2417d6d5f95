"""The servers on trial: each folder's contender.toml, and where it is installed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks import contender
from benchmarks.installation import Installation

HERE = Path(__file__).parent
FOLDER = HERE / "contenders"
OURS = "api_hour"


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A callback of the service that runs when a worker starts: ``text``, for the end of a file."""

    name: str
    file: str
    text: str


class Declaration(contender.Declaration, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of a contender.toml.

    Its commands may also contain {tcp} and {udp}, which are ports, {current}, the folder of the
    application, and {pid}, a pid file.

    ``application`` is a file in ``applications``; ``beside`` are further files for its folder.
    ``reload`` is a signal, or a command to run in that folder. ``several`` starts the server with
    three protocols, ``metrics`` with Prometheus metrics on the port {tcp}, in which the lines that
    match ``counter`` count requests. ``linked`` starts it in a folder that is a link, ``logged``
    with its logs in /dev/full; ``pid`` is added to ``command`` to name a pid file, and
    ``reload_by_pid`` is the documented command that reloads the server of one. ``hook`` raises.
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
    hook: Hook | None = None
    linked: tuple[str, ...] = ()
    logged: tuple[str, ...]
    pid: tuple[str, ...] = ()
    reload_by_pid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entrant:
    """A server on trial."""

    name: str
    declaration: Declaration
    installation: Installation


def discover(venvs: Path, names: Iterable[str] = (), *, here: bool = False) -> list[Entrant]:
    """Return all servers, or the named ones, ours first; for ``here`` see Installation."""
    files = sorted(
        FOLDER.glob("*/contender.toml"), key=lambda file: (file.parent.name != OURS, file)
    )
    entrants = {}
    for file in files:
        tables = msgspec.toml.decode(file.read_bytes(), type=dict[str, Declaration])
        for name, declaration in tables.items():
            installable = contender.Contender(name, file.parent, declaration)
            installation = Installation(installable, venvs, here=here)
            entrants[name] = Entrant(name, declaration, installation)
    for name in names:
        if name not in entrants:
            raise LookupError(f"no server is named {name!r}: there are {', '.join(entrants)}")
    return [entrant for entrant in entrants.values() if not names or entrant.name in names]
