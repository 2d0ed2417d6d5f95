"""Users that a test makes and removes again, and folders that they may enter; only root may."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RIGHTS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")


@contextmanager
def made_user(*options: str) -> Iterator[pwd.struct_passwd]:
    """Make a system user of this machine, which is removed at the end."""
    name = free_name()
    subprocess.run(["useradd", "--system", "--user-group", *options, name], check=True)
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", name], check=True)


def free_name() -> str:
    """Return a name that no user has."""
    return f"test_{uuid.uuid4().hex[:12]}"


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a new folder that every user may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def open_python(user: str) -> str | None:
    """Return a Python of our version that ``user`` may run, and not only we; None without one."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for folder in (Path(sys.base_prefix, "bin"), Path("/usr/local/bin"), Path("/usr/bin")):
        python = str(folder / name)
        # setpriv itself starts a program with root's rights, in whatever folder it is.
        shell = ["sh", "-c", 'exec "$0" -c "import venv"', python]
        command = ["setpriv", f"--reuid={user}", "--clear-groups", *shell]
        if not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            return python
    return None


def rights(pid: int | str) -> dict[str, list[str]]:
    """Return the lines of /proc/PID/status about what a process may do."""
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return {line[0].rstrip(":"): line[1:] for line in lines if line[0].rstrip(":") in RIGHTS}


def none_but(account: pwd.struct_passwd) -> dict[str, list[str]]:
    """Return the same for a process that has nothing but what its user has."""
    groups = sorted(os.getgrouplist(account.pw_name, account.pw_gid))
    no = {name: ["0" * 16] for name in RIGHTS if name.startswith("Cap")}
    ids = {"Uid": [str(account.pw_uid)] * 4, "Gid": [str(account.pw_gid)] * 4}
    return {**ids, "Groups": [str(group) for group in groups], **no, "NoNewPrivs": ["1"]}
