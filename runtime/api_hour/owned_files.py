"""Files that root opens by a path: nobody else may have a say in which file that is.

Whoever may write to a folder of a path decides what stands there: he puts a link, or a file of his
own, instead of what was meant, and root writes to it, gives it away or runs it. So every step
of such a path must be root's (or the user's who looks), and be writable by nobody else. A link is
followed if it is root's as well. Only a folder like ``/tmp`` may be writable by all: there nobody
renames or removes what is another's; but a name that is still free may be taken at any moment.

A process that is not root opens with its own rights, and needs no such rule.
"""

import os
import stat

from api_hour.exceptions import ConfigError

MAX_LINKS = 40  # that Linux follows in one path
ROOT = 0


def refuse_foreign(path: str, what: str, owner: int = ROOT) -> None:
    """Raise ConfigError, which begins with ``what``, if others decide which file ``path`` is.

    ``owner`` may have the file itself, but none of the folders. Does nothing for who is not root.
    """
    if os.geteuid() != ROOT:
        return
    folder, rest, links = "/", _names(os.path.abspath(path)), 0
    while rest:
        name = rest.pop(0)
        place = os.path.join(folder, name)
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            if os.lstat(folder).st_mode & stat.S_ISVTX:
                raise ConfigError(
                    f"{what}: anybody may put a file at {place} first; {CURE}"
                ) from None
            return  # in a folder of root: nobody else can make what is missing
        except OSError as error:
            raise ConfigError(f"{what}: {place}: {error.strerror}") from None
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if found.st_uid != ROOT or links > MAX_LINKS:
                raise ConfigError(f"{what}: the link {place} belongs to {_of(found)}; {CURE}")
            target = os.readlink(place)
            rest = _names(target) + rest
            folder = "/" if target.startswith("/") else folder
            continue
        _refuse(place, found, what, {ROOT} if rest else {ROOT, owner})
        folder = place


CURE = "give root a path on which every folder is root's, and nobody else may write to"


def _refuse(place: str, found: os.stat_result, what: str, owners: set[int]) -> None:
    if found.st_uid not in owners:
        raise ConfigError(f"{what}: {place} belongs to {_of(found)}; {CURE}")
    is_folder = stat.S_ISDIR(found.st_mode)
    if not is_folder and not stat.S_ISREG(found.st_mode):
        return  # a device, as /dev/null: writing to it changes no file
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise ConfigError(f"{what}: {place} has a second name somewhere; {CURE}")
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others and not (is_folder and found.st_mode & stat.S_ISVTX):
        raise ConfigError(f"{what}: others than its owner may write to {place}; {CURE}")


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _of(found: os.stat_result) -> str:
    return f"user {found.st_uid}"
