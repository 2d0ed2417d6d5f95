"""Socket activation as systemd does it."""

import socket
import sys
from collections.abc import Mapping, Sequence

from testkit.processes import API_HOUR

# The sockets become descriptors 3 and up, and LISTEN_PID names the process that stays.
ACTIVATE = """
import fcntl, os, sys
names, descriptors, *command = sys.argv[1:]
sockets = [int(text) for text in descriptors.split(",")]
high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in sockets]
for descriptor in sockets:
    os.close(descriptor)
for number, descriptor in enumerate(high, 3):
    os.dup2(descriptor, number)
    os.close(descriptor)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""


def activated(
    sockets: Mapping[str, socket.socket], command: Sequence[str] = API_HOUR
) -> tuple[str, ...]:
    """Return a command that hands listening sockets to ``command``, each under its name.

    The process that runs it must inherit the sockets: ``pass_fds=descriptors(sockets)``.
    """
    passed = ",".join(map(str, descriptors(sockets)))
    return sys.executable, "-c", ACTIVATE, ":".join(sockets), passed, *command


def descriptors(sockets: Mapping[str, socket.socket]) -> list[int]:
    """Return the descriptors of the sockets."""
    return [held.fileno() for held in sockets.values()]
