"""Whom install.sh trusts, which is root alone, and as whom it serves, which is anybody else.

The releases here are empty but for a program instead of Python, which says what it may do.
test_release.py has real ones.
"""

import fcntl
import os
import pty
import pwd
import shutil
import stat
import subprocess
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from testkit.processes import Program
from testkit.projects import bake
from testkit.users import RIGHTS, free_name, made_user, none_but, open_folder, open_python
from testkit.waiting import TIMEOUT, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
FILES = ("environment", "releases", "releases/.lock", "current", "previous")
VERBS: tuple[tuple[str, ...], ...] = ((), ("serve",), ("rollback",))
PYTHON = f"""#!/bin/sh
PATH=/usr/bin:/bin
[ -z "$REPORT" ] || exec > "$REPORT"
grep -E '^({"|".join(RIGHTS)}):' /proc/self/status
echo "Writable: $(find "$PWD/" -writable)"
echo "Open: $(find "/proc/$$/fd" -lname '*environment' -o -lname '*lock')"
env | sed 's/=.*/:&/; s/=/ /'
"""
# A listener that hears of the new master at once.
LISTENER = """#!/bin/sh
PATH=/usr/bin:/bin
case "$*" in "-I -c "*)
    new=${4%/*}/hello.pid.2
    echo Listening
    until [ -s "$new" ]; do sleep 0.05; done
    echo "$(cat "$new") STATUS=1 of 1 workers ready"
    exec sleep 60
esac
"""
# A master that starts a new one at USR2, and ignores TERM.
MASTER = """
trap '' TERM
trap 'sh -c "sleep 600; :" "$@" & echo $! > "$0/hello.pid.2"' USR2
echo $$ > "$0/hello.pid"
echo Ready
while :; do sleep 0.05; done
"""
# It notes what it may do with the terminal of whoever started the installer, and serves until TERM.
INTRUDER = """
import fcntl, os, signal, sys, termios
def note(text):
    with open(os.environ["REPORT"], "a") as file:
        print(text, file=file)
def end(*_):
    note("terminated")
    os._exit(7)
signal.signal(signal.SIGTERM, end)
for number in (0, 1, 2):
    for act in (
        lambda: os.open("/dev/tty", os.O_RDWR),
        lambda: fcntl.ioctl(number, termios.TIOCSTI, b"x"),
        lambda: fcntl.ioctl(number, termios.TIOCSCTTY, 0),
    ):
        try:
            act()
            note("may act")
        except OSError:
            pass
    if os.isatty(number) and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
        note("may read")
note("looked")
print("Looked", flush=True)
if "--check" not in sys.argv or "SLOW" in os.environ:
    signal.pause()
"""
Spoil = Callable[[Path, pwd.struct_passwd], Path]


@dataclass
class Site:
    """A prefix with two releases, and an archive, in a folder that everybody may enter."""

    folder: Path
    account: pwd.struct_passwd
    as_user: bool = False  # whether the account installs, and not root

    @property
    def prefix(self) -> Path:
        """Return the prefix."""
        return self.folder / "opt" / "hello"

    @property
    def run(self) -> Path:
        """Return the folder of the user who serves."""
        return self.prefix / "run"

    @property
    def installer(self) -> Path:
        """Return the installer of the archive."""
        return self.folder / "archive" / "install.sh"

    def do(
        self, *verb: str, folder: Path | None = None, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the installer of the archive, in a folder."""
        own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PREFIX": str(self.prefix)}
        return subprocess.run(
            [str(self.installer), *verb],
            cwd=folder,
            env=own | {"SERVICE_USER": self.account.pw_name} | variables,
            user=self.account.pw_uid if self.as_user else None,
            group=self.account.pw_gid if self.as_user else None,
            extra_groups=[] if self.as_user else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )

    def succeeds(self, *verb: str, folder: Path | None = None, **variables: str) -> str:
        """Run the installer, which must succeed without a word on stderr; return the output."""
        result = self.do(*verb, folder=folder, **variables)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    def refuses(self, *verb: str, folder: Path | None = None, **variables: str) -> str:
        """Run the installer, which must fail; return the one line of its message."""
        result = self.do(*verb, folder=folder, **variables)
        assert result.returncode == 1, result
        (line,) = result.stderr.splitlines()
        return line

    def serves(self, **variables: str) -> dict[str, list[str]]:
        """Return what the daemon reports."""
        return reported(self.succeeds("serve", folder=None, **variables))


@pytest.fixture(scope="module")
def account() -> Iterator[pwd.struct_passwd]:
    with made_user() as account:
        yield account


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the installer of a project."""
    project = bake(tmp_path_factory.mktemp("baked"), database="none")
    return (project / "deploy" / "install.sh").read_text()


@pytest.fixture
def site(script: str, account: pwd.struct_passwd) -> Iterator[Site]:
    with open_folder() as folder:
        site = Site(folder, account)
        for version in ("0.1.0", "0.2.0"):
            python = site.prefix / "releases" / version / "venv" / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.write_text(PYTHON)
            python.chmod(0o755)
        (site.prefix / "current").symlink_to("releases/0.2.0")
        (site.prefix / "previous").symlink_to("releases/0.1.0")
        (site.prefix / "releases" / ".lock").touch()
        (site.prefix / "environment").touch(0o600)
        (folder / "archive" / "wheels").mkdir(parents=True)
        site.installer.write_text(script)
        site.installer.chmod(0o755)
        yield site


def linked_by_another(path: Path, account: pwd.struct_passwd) -> Path:
    """Put another user's link there, to what was there."""
    path.symlink_to(path.rename(path.with_name("kept")))
    os.lchown(path, account.pw_uid, account.pw_gid)
    return path


def linked_to_anothers(path: Path, account: pwd.struct_passwd) -> Path:
    """Put root's link there, to what is another user's."""
    path.symlink_to(path.rename(path.with_name("kept")))
    os.chown(path, account.pw_uid, account.pw_gid)
    return path.resolve()


def given_away(path: Path, account: pwd.struct_passwd) -> Path:
    os.lchown(path, account.pw_uid, account.pw_gid)
    return path


def writable_by_its_group(path: Path, account: pwd.struct_passwd) -> Path:
    path.chmod(path.stat().st_mode | 0o020)
    return path.resolve()


def writable_by_all(path: Path, account: pwd.struct_passwd) -> Path:
    path.chmod(path.stat().st_mode | 0o002)
    return path.resolve()


def in_a_foreign_folder(path: Path, account: pwd.struct_passwd) -> Path:
    os.chown(path.parent, account.pw_uid, account.pw_gid)
    return path.parent


def in_a_writable_folder(path: Path, account: pwd.struct_passwd) -> Path:
    path.parent.chmod(0o775)
    return path.parent


@pytest.mark.parametrize(
    "spoil",
    [
        *(
            linked_by_another,
            linked_to_anothers,
            given_away,
            writable_by_its_group,
            writable_by_all,
        ),
        *(in_a_foreign_folder, in_a_writable_folder),
    ],
)
@pytest.mark.parametrize("file", FILES)
def test_root_refuses_a_file_that_may_be_somebody_elses_word(
    site: Site, file: str, spoil: Spoil
) -> None:
    spoilt = spoil(site.prefix / file, site.account)
    before = everything(site.folder)
    line = site.refuses()
    if "writable" in spoil.__name__:
        mode = f"{stat.S_IMODE(spoilt.stat().st_mode):o}"
        assert f"others than root may write to {spoilt} (mode {mode})" in line
        assert line.endswith(f"(chmod go-w {spoilt})")
    else:
        owner = f"{site.account.pw_name} (user {site.account.pw_uid})"
        assert f"{spoilt} belongs to {owner}" in line
        assert line.endswith(f"(chown -h root: {spoilt})")
    assert everything(site.folder) == before


def test_nothing_of_a_foreign_prefix_is_read_written_or_signalled(site: Site) -> None:
    """A pipe to hang at, a link to write through, all processes to kill."""
    victim = site.folder / "victim"
    victim.write_text("precious")
    shutil.rmtree(site.prefix)
    (site.prefix / "releases").mkdir(parents=True)
    os.mkfifo(site.prefix / "environment")
    (site.prefix / "releases" / ".lock").symlink_to(victim)
    site.run.symlink_to(".")
    (site.prefix / "hello.pid").write_text("-1\n")
    for path in (site.prefix, *site.prefix.rglob("*")):
        os.lchown(path, site.account.pw_uid, site.account.pw_gid)
    before = everything(site.folder)
    for verb in VERBS:
        assert f"{site.prefix} belongs to {site.account.pw_name}" in site.refuses(*verb)
    os.chown(site.prefix, 0, 0)  # the cure alone leaves what was there
    for verb in VERBS:
        assert f"{site.prefix}/environment belongs to" in site.refuses(*verb)
    os.chown(site.prefix, site.account.pw_uid, site.account.pw_gid)
    assert everything(site.folder) == before
    os.chown(site.prefix.parent, site.account.pw_uid, site.account.pw_gid)
    assert f"{site.prefix.parent} belongs to" in site.refuses()


def test_in_a_folder_for_all_only_what_root_has_made_before_is_safe(site: Site) -> None:
    public = site.folder / "tmp"
    public.mkdir()
    public.chmod(0o1777)
    new = str(public / "new")
    assert f"anybody may make {new} before root does: make it first" in site.refuses(PREFIX=new)
    assert not (public / "new").exists()
    assert "environment before root does" in site.refuses("serve", PREFIX=str(public))
    shutil.copytree(site.prefix, public / "made", symlinks=True)
    assert "NoNewPrivs" in site.serves(PREFIX=str(public / "made"))


def test_links_and_dots_of_roots_are_followed(site: Site) -> None:
    link = site.folder / "link"
    link.symlink_to("opt/../opt/./hello")
    assert "NoNewPrivs" in site.serves(PREFIX=f"{site.folder}/opt/../link")
    link.unlink()
    link.symlink_to("link")
    assert f"{link} is a link to itself" in site.refuses("serve", PREFIX=str(link))


def test_nothing_in_the_folder_of_the_caller_is_run(site: Site) -> None:
    """Python looks there for the module of -m, before its own folders."""
    trap, sprung = site.folder / "trap", site.folder / "sprung"
    trap.mkdir()
    for module in ("venv", "ensurepip", "pip", "os", "socket"):
        (trap / f"{module}.py").write_text(f"open({str(sprung)!r}, 'w')\n")
    trap.chmod(0o1777)
    units = site.installer.parent / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    (units / "hello.service").touch()
    (site.installer.parent / "wheels" / "hello-0.3.0-py3-none-any.whl").touch()
    line = site.refuses(folder=trap, PREFIX="../opt/hello")
    assert "the pip failed" in line  # of which there is no wheel
    assert line.endswith("; 0.2.0 stays current")
    assert not sprung.exists()


def test_an_upgrade_does_not_wait_for_ever_for_the_old_master(site: Site) -> None:
    site.succeeds("serve")
    text = site.installer.read_text()
    assert text.count("timeout=90 ") == 1
    site.installer.write_text(text.replace("timeout=90 ", "timeout=3 "))
    (site.prefix / "releases" / "0.1.0" / "venv" / "bin" / "python").write_text(LISTENER)

    def become() -> None:
        os.setgid(site.account.pw_gid)
        os.setuid(site.account.pw_uid)

    arguments = [str(site.run), "hello:Container", f"--pid={site.run}/hello.pid"]
    with Program("sh", "-c", MASTER, *arguments, before_exec=become) as master:
        master.wait_for("Ready")
        environment = site.prefix / "environment"
        before = environment.read_text()
        environment.write_text(f"{before}NEWS=1\n")
        assert f"{environment} has changed since the daemon started" in site.refuses("rollback")
        environment.write_text(before)
        line = site.refuses("rollback")
        assert f"the old master {master.pid} did not stop within 3 s" in line
        assert line.endswith("; 0.1.0 stays current")


@pytest.fixture
def report(site: Site) -> Path:
    """Return the file of what an intruder notes, who is the program of all releases."""
    python = open_python(site.account.pw_name)
    if python is None:
        pytest.skip("no other user may run a Python")
    intruder, report = site.folder / "intruder.py", site.folder / "report"
    intruder.write_text(INTRUDER)
    report.touch()
    report.chmod(0o666)
    for version in ("0.1.0", "0.2.0"):
        program = site.prefix / "releases" / version / "venv" / "bin" / "python"
        program.write_text(f'#!/bin/sh\nexec {python} {intruder} "$@"\n')
    (site.prefix / "environment").write_text(f"REPORT={report}\n")
    return report


@pytest.mark.parametrize("verb", ["serve", "rollback"])
@pytest.mark.parametrize("end", ["Ctrl-C", "Ctrl-backslash", "hangup"])
def test_what_the_user_runs_has_no_terminal_and_ends_with_roots(
    site: Site, report: Path, verb: str, end: str
) -> None:
    with (site.prefix / "environment").open("a") as environment:
        environment.write("SLOW=yes\n")
    keyboard, terminal = pty.openpty()
    shell = f"trap : INT QUIT; {site.installer} {verb}; echo $? > {site.folder}/status"
    process = subprocess.Popen(
        ["bash", "-c", shell],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"PREFIX": str(site.prefix), "SERVICE_USER": site.account.pw_name},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    try:
        until(lambda: "looked" in report.read_text(), "the program did not start")
        assert "may" not in report.read_text()
        if end == "hangup":
            os.close(keyboard)
        else:
            os.write(keyboard, b"\x03" if end == "Ctrl-C" else b"\x1c")
        process.wait(TIMEOUT)
        until(lambda: "terminated" in report.read_text(), "the program did not end")
        assert report.read_text().split() == ["looked", "terminated"]
        if end != "hangup":
            status = (site.folder / "status").read_text()
            assert status == "7\n" if verb == "serve" else status != "0\n"
            assert (site.prefix / "current").readlink() == Path("releases/0.2.0")
    finally:
        process.kill()
        if end != "hangup":
            os.close(keyboard)


def test_the_daemon_has_its_users_rights_and_no_others(site: Site) -> None:
    (site.prefix / "environment").write_text("# its address\n\nGREETING=a=b 'c' $d\nURL=x")
    said = site.serves()
    assert {name: said[name] for name in RIGHTS} == none_but(site.account)
    assert (said["Writable"], said["Open"]) == ([], [])
    assert (said["GREETING"], said["URL"]) == (["a=b", "'c'", "$d"], ["x"])
    assert (said["USER"], said["HOME"]) == ([site.account.pw_name], [site.account.pw_dir])
    assert said["NOTIFY_SOCKET"] == [f"{site.run}/notify"]
    status = site.run.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (site.account.pw_uid, 0o700)


def test_a_check_has_its_users_rights_and_no_others(site: Site) -> None:
    report = site.folder / "report"
    report.touch()
    report.chmod(0o666)
    (site.prefix / "environment").write_text(f"REPORT={report}\n")
    assert f"Nothing serves from {site.prefix}" in site.succeeds("rollback")
    said = reported(report.read_text())
    assert {name: said[name] for name in RIGHTS} == none_but(site.account)
    assert (said["Writable"], said["Open"]) == ([], [])


def test_the_environment_acts_on_no_process_of_root(site: Site) -> None:
    notes = site.folder / "notes"
    notes.mkdir()
    notes.chmod(0o777)
    # The loader obeys these like LD_PRELOAD, and each process that it loads leaves a file.
    lines = ["LD_DEBUG=files", f"LD_DEBUG_OUTPUT={notes}/note", "PATH=/nowhere", "BASH_ENV=/x"]
    (site.prefix / "environment").write_text("\n".join(lines))
    site.succeeds("rollback")
    owners = {path.stat().st_uid for path in notes.iterdir()}
    assert owners == {site.account.pw_uid}


@pytest.mark.parametrize("line", ["export A=b", "A", "1A=b", "A-B=c", " A=b", "; A=b", "=b"])
def test_a_line_of_the_environment_that_sets_nothing_is_refused(site: Site, line: str) -> None:
    (site.prefix / "environment").write_text(f"SECRET=x\n{line}\n")
    for verb in ("serve", "rollback"):
        said = site.refuses(verb)
        assert f"{site.prefix}/environment:2: write NAME=value, or # before a comment" in said
        assert (line in said) is (line in "NAME=value")


@pytest.mark.parametrize("line", ['A="b"', "A='b'", "A=b\r"])
def test_quotes_and_ends_of_windows_do_not_become_a_part_of_a_value(site: Site, line: str) -> None:
    (site.prefix / "environment").write_text(f"FIRST=1\n{line}\n")
    assert f"{site.prefix}/environment:2: write the value without quotes" in site.refuses("serve")


@pytest.mark.parametrize("owner", ["root", "another"])
def test_root_signals_no_process_but_its_services(
    site: Site, account: pwd.struct_passwd, owner: str
) -> None:
    def become() -> None:
        if owner != "root":
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

    site.succeeds("serve")
    pidfile = site.run / "hello.pid"
    command = ["sh", "-c", "sleep 600; :", "hello:Container", "--pid", f"--pid={pidfile}"]
    with Program(*command, before_exec=become) as victim:
        for text in (victim.pid, -1, 1, 0, f"{victim.pid} 1", f"0{victim.pid}", f"{victim.pid}\0"):
            pidfile.write_text(f"{text}\n")
            os.chown(pidfile, account.pw_uid, account.pw_gid)
            assert "Nothing serves from" in site.succeeds("rollback")
        assert not victim.has_ended


def test_a_pid_file_may_be_whatever_its_owner_wants(site: Site) -> None:
    secret = site.folder / "secret"
    secret.write_text(f"{os.getpid()}\n")
    secret.chmod(0o600)
    site.succeeds("serve")
    pidfile = site.run / "hello.pid"
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(secret, path)):
        make(pidfile)
        os.lchown(pidfile, site.account.pw_uid, site.account.pw_gid)
        assert "Nothing serves from" in site.succeeds("rollback")
        pidfile.rmdir() if pidfile.is_dir() else pidfile.unlink()
    assert secret.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("kind", ["root's", "another's", "a link", "a file"])
def test_the_run_folder_is_one_of_the_user_who_serves(site: Site, kind: str) -> None:
    target = site.folder / "elsewhere"
    target.mkdir()
    os.chown(target, site.account.pw_uid, site.account.pw_gid)
    if kind == "a link":
        site.run.symlink_to(target)
        os.lchown(site.run, site.account.pw_uid, -1)
    elif kind == "a file":
        site.run.touch()
        os.chown(site.run, site.account.pw_uid, site.account.pw_gid)
    else:
        site.run.mkdir()
        os.chown(site.run, 0 if kind == "root's" else 65534, -1)
    before = everything(site.folder)
    for verb in ("serve", "rollback"):
        assert f"{site.run} must be a folder of {site.account.pw_name}" in site.refuses(verb)
    assert everything(site.folder) == before


def test_a_user_is_made_if_none_is_named(site: Site) -> None:
    name = free_name()
    text = site.installer.read_text()
    assert text.count("name=hello\n") == 1
    site.installer.write_text(text.replace("name=hello\n", f"name={name}\n"))
    try:
        result = site.do("serve", SERVICE_USER="")
        assert f"Made the system user {name}, who serves\n" in result.stdout
        made = pwd.getpwnam(name)
        assert made.pw_uid < 1000
        assert (made.pw_dir, made.pw_shell) == ("/nonexistent", "/usr/sbin/nologin")
        said = reported(result.stdout)
        assert {right: said[right] for right in RIGHTS} == none_but(made)
        assert site.serves(SERVICE_USER="")["Uid"] == said["Uid"]
    finally:
        subprocess.run(["userdel", name], check=True)


def test_a_user_who_cannot_serve_is_refused(site: Site) -> None:
    line = site.refuses("serve", SERVICE_USER="nobody-has-this-name")
    assert "there is no user nobody-has-this-name: make it, or name another SERVICE_USER" in line
    with made_user("--uid", "61184") as dynamic:
        line = site.refuses("serve", SERVICE_USER=dynamic.pw_name)
        assert f"the user {dynamic.pw_name} exists only while its service runs" in line
    text = site.installer.read_text()
    site.installer.write_text(text.replace("name=hello\n", "name=root\n"))
    assert "root is root: name another SERVICE_USER" in site.refuses("serve", SERVICE_USER="")
    site.installer.write_text(text.replace("name=hello\n", f"name={'x' * 40}\n"))
    line = site.refuses("serve", SERVICE_USER="")
    assert f"no system user {'x' * 40} could be made: useradd: " in line
    site.installer.write_text(text)
    assert not site.run.exists()
    site.folder.chmod(0o700)
    line = site.refuses("serve")
    assert f"{site.account.pw_name} may not run {site.prefix}/current/venv/bin/python: " in line


def test_root_serves_if_that_is_what_it_names(site: Site) -> None:
    assert site.serves(SERVICE_USER="root")["Uid"] == ["0"] * 4
    assert f"{site.run} must be a folder of" in site.refuses("serve")


def test_a_daemon_of_an_earlier_installer_has_to_be_stopped(site: Site) -> None:
    old = site.prefix / "hello.pid"
    old.write_text(f"{os.getpid()}\n")
    for verb in ((), ("rollback",)):
        line = site.refuses(*verb)
        assert f"started the daemon of {old}: stop it, remove that file" in line
        assert line.endswith("; 0.2.0 stays current")


def test_another_user_installs_for_himself_and_needs_no_root(site: Site) -> None:
    site = replace(site, as_user=True)
    user = site.account.pw_uid
    assert "Permission denied" in site.do("serve").stderr  # root's prefix
    for path in (site.prefix, *site.prefix.rglob("*")):
        os.lchown(path, user, -1)
    site.prefix.chmod(0o777)
    assert site.serves(SERVICE_USER="root")["Uid"] == [str(user)] * 4  # only root may choose
    assert (site.run.stat().st_uid, stat.S_IMODE(site.run.stat().st_mode)) == (user, 0o700)
    assert "Nothing serves from" in site.succeeds("rollback")


def reported(text: str) -> dict[str, list[str]]:
    """Return what the program instead of Python has said: values by name."""
    lines = [line.partition(":") for line in text.splitlines()]
    return {name: values.split() for name, _, values in lines}


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what there is in a folder: the mode, the owner and the content of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_mode, status.st_uid, content)
    return found
