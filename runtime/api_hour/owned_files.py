"""Files that root opens by a path: nobody else may have a say in which file that is.

Theory of operation
===================
Whoever may write to a folder of a path decides what stands there. He replaces what was meant by a
link, or by a file of his own, and root writes to it, gives it away or believes it. A check before
the file is opened does not help: he does it in between. So root walks down from ``/``, and opens
each folder by its name in the one before, never by a path. It then knows of each folder whether
others have a say in what follows:

* A folder is safe if it belongs to root and nobody else may write to it. A folder like ``/tmp`` is
  safe, too: all may write there, but nobody may rename or remove what is another's.
* A link is followed if it is root's, and no folder before it was unsafe. So where others have a
  say, they cannot lead root out of what is theirs.
* The file is opened last, without following a link, and looked at by its descriptor. It must be
  root's (or its ``owner``'s), and have no second name: a hard link in a folder of theirs may be a
  name of any file. A pipe in a folder of theirs is refused, whoever owns it: they would decide when
  it is read, and root would wait for them.

``trusted`` are users whose word root takes in any case, because it runs their configuration or
their code: their files and folders count as root's, also where their group may write. A process
that is not root opens with its own rights, and needs no such rule: here nothing is refused then.
"""

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from api_hour.exceptions import ConfigError

ROOT = 0
MAX_LINKS = 40  # that Linux follows in one path
ATTEMPTS = 10  # to open a file that others create and remove at the same time
PATH = getattr(os, "O_PATH", os.O_RDONLY)  # on Linux, no right to read a folder is needed
DESCRIPTORS = re.compile(r"/proc/[0-9]+/fd")  # a folder of Linux
OTHERS = stat.S_IWGRP | stat.S_IWOTH  # with access control lists, the bits of the group are theirs
CURE = "name a file of root's, in folders that belong to root and that nobody else may write to"


class ForeignFile(ConfigError):
    """Others have a say in a file: ``fault`` says who, and where."""

    def __init__(self, what: str, fault: str, cure: str = CURE) -> None:
        super().__init__(f"{what}: {fault}; {cure}")
        self.fault = fault


class Place(NamedTuple):
    """A name in an open folder, behind all links of a path."""

    folder: int  # a descriptor, which ends with the block
    name: str
    path: str
    fault: str = ""  # in which folder others have a say; "" if they have none
    is_shared: bool = False  # all of those folders are root's, and only their groups may write
    is_open: bool = False  # a descriptor of root's process, as /dev/stdout or /proc/1/fd/1 is

    @property
    def reach(self) -> str:
        """Return a path, for as long as the block lasts, that leads through the open folder."""
        has_proc = os.path.isdir("/proc/self/fd")
        return f"/proc/self/fd/{self.folder}/{self.name}" if has_proc else self.path

    def refuse(self, what: str, owners: Collection[int]) -> None:
        """Raise ForeignFile if what stands here belongs to others; nothing may stand here."""
        with suppress(FileNotFoundError):
            found = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
            if os.geteuid() == ROOT:
                _refuse_file(self, found, what, owners)


def refuse_foreign(
    path: str, what: str, *, trusted: Collection[int] = (ROOT,), owner: int = ROOT
) -> None:
    """Raise ForeignFile, which begins with ``what``, if others decide what ``path`` is.

    That may be a file or a folder, or be missing. ``owner`` may have the thing itself, but none of
    the folders before it. Raises OSError, too, for example for a folder that is missing.
    """
    if os.geteuid() != ROOT:
        return
    with located(path, what, trusted=trusted) as place:
        _refuse_fault(place, what)
        try:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        except FileNotFoundError:
            if os.fstat(place.folder).st_mode & stat.S_ISVTX:
                fault = f"anybody may put something at {place.path} first"
                raise ForeignFile(what, fault) from None
            return  # in a folder of root: nobody else can make what is missing
        _refuse_file(place, found, what, {*trusted, owner})
        _refuse_writable(place, found, what)


def open_owned(
    path: str,
    flags: int,
    what: str,
    *,
    trusted: Collection[int] = (ROOT,),
    owner: int = ROOT,
    mode: int = 0o644,
    anywhere: bool = False,
    give: tuple[int, int] | None = None,
) -> int:
    """Return a descriptor of the file ``path``, as ``os.open`` does; raises OSError.

    Raises ForeignFile, which begins with ``what``, if others have a say in which file that is, or
    may write to it. With ``anywhere`` the folders may be anybody's, and others may write as well:
    enough for a log, which is only written to. Nothing happens to what is refused.
    A file that is made here is given to the user and the group of ``give``. One that exists keeps
    its group, and is given to the user as ``_give`` says.
    """
    if os.geteuid() != ROOT:
        return os.open(path, flags | os.O_CLOEXEC, mode)
    with located(path, what, trusted=trusted) as place, _naming(path):
        if place.is_open:
            nonblocking = flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            descriptor = os.open(place.name, nonblocking, mode, dir_fd=place.folder)
            os.set_blocking(descriptor, not flags & os.O_NONBLOCK)
            return descriptor
        if not anywhere:
            _refuse_fault(place, what)
        if flags & os.O_NOFOLLOW and os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        descriptor, is_new = _open(place, flags, mode)
        try:
            found = os.fstat(descriptor)
            _refuse_file(place, found, what, {*trusted, owner})
            _refuse_pipe(place, found, what, trusted)
            if not anywhere:
                _refuse_writable(place, found, what)
            if flags & os.O_TRUNC and stat.S_ISREG(found.st_mode):
                os.ftruncate(descriptor, 0)
            if give and stat.S_ISREG(found.st_mode):
                _give(descriptor, give, place, None if is_new else found)
            os.set_blocking(descriptor, not flags & os.O_NONBLOCK)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@contextmanager
def located(path: str, what: str, *, trusted: Collection[int] = (ROOT,)) -> Iterator[Place]:
    """Yield where ``path`` leads: an open folder, and a name in it, which may be missing.

    What is done by that name, without following it, is done in this folder and nowhere else. Raises
    ForeignFile for a link that is not followed, and OSError.
    """
    with ExitStack() as opened:
        if os.geteuid() != ROOT:
            parent, name = os.path.split(os.path.abspath(path))
            descriptor = os.open(parent, PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            yield Place(descriptor, name, path)
            return
        at, folder, fault, is_shared = "/", _step(opened, "/"), "", True
        rest, links = _names(os.path.abspath(path)), 0
        while rest:
            status = os.fstat(folder)
            if found_fault := _fault(at, status, trusted):
                fault = fault or found_fault
                is_shared = is_shared and not (status.st_uid or status.st_mode & stat.S_IWOTH)
            name = rest.pop(0)
            path = os.path.normpath(os.path.join(at, name))
            place = Place(folder, name, path, fault, is_shared)
            try:
                there = _step(opened, name, folder, place.path)
            except FileNotFoundError:
                if rest:
                    raise
                break
            found = os.fstat(there)
            if not stat.S_ISLNK(found.st_mode):
                at, folder = place.path, there
            elif not rest and _is_descriptor(at, folder, found, fault):
                place = place._replace(is_open=True)
            else:
                links += 1
                with _naming(place.path):
                    target = os.readlink("", dir_fd=there)
                _refuse_link(place, found, target, what, trusted)
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place.path)
                rest = _names(target) + rest
                if target.startswith("/"):
                    at, folder = "/", _step(opened, "/")
        yield place


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Let an OSError of the block say which file it is about."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


def _is_descriptor(at: str, folder: int, link: os.stat_result, fault: str) -> bool:
    """Return whether a link in the folder ``at`` is an open file of a process of root's.

    With a program like ``sudo``, whoever starts it chooses what is open in it: he can let it have a
    file that he may only read. So another process must have it open for writing, as the mode of
    the link says.
    """
    if not DESCRIPTORS.fullmatch(at) or os.fstat(folder).st_dev != os.stat("/proc").st_dev:
        return False
    is_own = at == f"/proc/{os.getpid()}/fd"
    return is_own or (not fault and bool(link.st_mode & stat.S_IWUSR))


def _names(path: str) -> list[str]:
    """Return the steps of a path; the last one is the name of something."""
    return [name for name in path.split("/") if name not in ("", ".")] or ["."]


def _step(opened: ExitStack, name: str, folder: int | None = None, path: str = "/") -> int:
    """Return a descriptor of what stands in a folder: of a link, if it is one."""
    flags = PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    with _naming(path):
        descriptor = os.open(name, flags, dir_fd=folder)
    opened.callback(os.close, descriptor)
    return descriptor


def _open(place: Place, flags: int, mode: int) -> tuple[int, bool]:
    """Open what stands at a place, or make it there, without waiting and without changing it.

    Return the descriptor, and whether the file was made.
    """
    making = flags & os.O_CREAT
    plain = flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)
    plain |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    for _ in range(ATTEMPTS):
        if not flags & os.O_EXCL:
            try:
                return os.open(place.name, plain, dir_fd=place.folder), False
            except FileNotFoundError:
                if not making:
                    raise
        try:
            new = plain | os.O_CREAT | os.O_EXCL
            return os.open(place.name, new, mode, dir_fd=place.folder), True
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
    raise OSError(errno.EBUSY, "comes and goes")


def _give(descriptor: int, to: tuple[int, int], place: Place, found: os.stat_result | None) -> None:
    """Give a file away that was made here, or one that was ``found``.

    If nobody could have put it there, that is what was meant. A group that may write to folders of
    root's can move other files to its name: the log of another daemon, perhaps. So there it must be
    as logrotate creates it, root's and empty: what it will hold, such a group could have had by a
    file of its own at the other name.
    """
    user, group = to
    if found is None:
        os.fchown(descriptor, user, group)
    elif not place.fault or (place.is_shared and found.st_uid == ROOT and not found.st_size):
        os.fchown(descriptor, user, -1)


def _fault(path: str, found: os.stat_result, trusted: Collection[int]) -> str:
    """Return how others have a say in a folder; empty if they have none."""
    if found.st_uid not in trusted:
        return f"{path} belongs to user {found.st_uid}"
    others = OTHERS if found.st_uid == ROOT else stat.S_IWOTH
    if found.st_mode & others and not found.st_mode & stat.S_ISVTX:
        return f"others than user {found.st_uid} may write to {path}"
    return ""


def _refuse_fault(place: Place, what: str) -> None:
    if place.fault:
        raise ForeignFile(what, place.fault)


def _refuse_link(
    place: Place, found: os.stat_result, target: str, what: str, trusted: Collection[int]
) -> None:
    fault, cure = place.fault, CURE
    if found.st_uid not in trusted:
        fault = f"it belongs to user {found.st_uid}"
    elif fault:  # as far as root can tell it is what the operator has made
        meant = os.path.normpath(os.path.join(os.path.dirname(place.path), target))
        cure = f"name what it leads to, {meant}, if you mean that"
    if fault:
        raise ForeignFile(what, f"the link {place.path} is not followed: {fault}", cure)


def _refuse_file(place: Place, found: os.stat_result, what: str, owners: Collection[int]) -> None:
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return  # only root makes one
    if found.st_uid not in owners:
        raise ForeignFile(what, f"{place.path} belongs to user {found.st_uid}")
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise ForeignFile(what, f"{place.path} has a second name somewhere")


def _refuse_pipe(place: Place, found: os.stat_result, what: str, trusted: Collection[int]) -> None:
    """Raise ForeignFile for what others have put there to let its writer wait for them."""
    if stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode):
        return
    fault = place.fault
    if os.fstat(place.folder).st_mode & stat.S_ISVTX and found.st_uid not in trusted:
        fault = f"it belongs to user {found.st_uid}"
    if fault:
        raise ForeignFile(what, f"{place.path} is neither a file nor a terminal: {fault}")


def _refuse_writable(place: Place, found: os.stat_result, what: str) -> None:
    if found.st_mode & OTHERS and not stat.S_ISCHR(found.st_mode):
        raise ForeignFile(what, f"others than user {found.st_uid} may write to {place.path}")
