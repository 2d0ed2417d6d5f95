"""The rights of a process: given up whole, and looked at afterwards, in one place.

Root's rights are in three places: the user, the group and the supplementary groups; the first two
are kept three times (real, effective and saved), and Linux has the capabilities beside them. Who
gives up only some has given up nothing: what is left leads back to the rest, or to the files that
it guards. The groups come first, because only root may give them up.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from api_hour.exceptions import ConfigError

ROOT = 0
CAPABILITIES = b"CapPrm", b"CapEff", b"CapAmb"  # lines of /proc/PID/status


def drop(uid: int, gid: int, groups: Iterable[int] = ()) -> None:
    """Become user ``uid`` of group ``gid``, and of ``groups`` beside it, for good.

    Raises ConfigError if this process may not, or if anything of what it was is left: then it must
    not go on.
    """
    wanted = {gid, *groups}
    try:
        os.setgroups(sorted(wanted))
        os.setgid(gid)  # of root, these set the real, the effective and the saved one
        os.setuid(uid)
    except OSError as error:
        raise ConfigError(
            f"this process may not become user {uid} of group {gid}: {error.strerror}; start it "
            "as root, or as that user"
        ) from None
    if left := _left(uid, gid, wanted):
        raise ConfigError(f"user {uid} of group {gid} would still have {left}")


def _left(uid: int, gid: int, groups: set[int]) -> str:
    """Return what this process has and should not have; empty if there is nothing."""
    if {*os.getresuid()} != {uid}:
        return f"the users {os.getresuid()}"
    if {*os.getresgid()} != {gid}:
        return f"the groups {os.getresgid()}"
    if {*os.getgroups()} - groups:
        return f"the supplementary groups {os.getgroups()}"
    if uid == ROOT:
        return ""
    with suppress(OSError):
        os.setuid(ROOT)
        return "a way back to root"
    with suppress(OSError):  # not on Linux
        for line in Path("/proc/thread-self/status").read_bytes().splitlines():
            name, _, value = line.partition(b":")
            if name in CAPABILITIES and int(value, 16):
                return f"capabilities of root ({int(value, 16):x})"
    return ""
