"""Reload in development: an edit is served, a mistake is reported and its fix needs no restart."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from testkit.processes import API_HOUR, Daemon, session
from testkit.waiting import until


def test_edits_are_served_and_mistakes_are_survived(
    run: Callable[..., Daemon], project: Path
) -> None:
    file = project / "hello.py"
    code = file.read_text()
    daemon = run("hello:Container", "--reload").ready()
    file.write_text(code.replace('"first"', '"second"'))
    until(lambda: says(daemon, "second"), "the edit is not served")
    until(lambda: len(daemon.workers()) == 1, "the old worker stayed")
    mark = daemon.mark()
    file.write_text(code + "\ndef f(:\n")
    daemon.wait_for(r"\[INFO\] \[api_hour.master.reloader\] hello.py has changed", after=mark)
    daemon.wait_for("Reload failed, the running workers stay: hello.py", after=mark)
    assert any("SyntaxError: invalid syntax" in line for line in daemon.lines[mark:])
    assert "Traceback (most recent call last):" in daemon.lines[mark:]
    assert says(daemon, "second")
    file.write_text(code.replace('"first"', '"fixed"'))
    until(lambda: says(daemon, "fixed"), "the fixed code is not served")
    assert daemon.stop() == 0


def says(daemon: Daemon, word: str) -> bool:
    """Tell whether the daemon answers ``word``; in development a worker drops its connections."""
    with suppress(ConnectionError):
        return bool(daemon.get()[1]["message"] == word)
    return False


def until_watching(daemon: Daemon, file: Path) -> None:
    """Write the file until the reloader, which starts beside the worker, has seen it."""

    def seen() -> bool:
        file.write_text(file.read_text() + "\n")
        return "Handling signal: hup" in daemon.output

    until(seen, "the reloader does not watch", pause=0.5)


def reloading(run: Callable[..., Daemon], project: Path) -> tuple[Daemon, Path, str]:
    """Return a daemon that watches its code, the file of that, and what was in it."""
    file = project / "hello.py"
    code = file.read_text()
    daemon = run("hello:Container", "--reload").ready()
    until_watching(daemon, file)
    return daemon, file, code


def test_two_edits_of_one_size_within_a_second_are_both_served(
    run: Callable[..., Daemon], project: Path
) -> None:
    daemon, file, code = reloading(run, project)
    for word in ("alpha", "bravo", "gamma"):
        file.write_text(code.replace("first", word))
        until(lambda word=word: says(daemon, word), f"{word} is not served")  # type: ignore[misc]


def test_the_reloader_ends_with_a_killed_master(run: Callable[..., Daemon]) -> None:
    daemon = run("hello:Container", "--reload").ready()
    daemon.process.kill()
    daemon.wait()


def test_a_start_with_a_mistake_waits_for_its_mend(
    run: Callable[..., Daemon], project: Path
) -> None:
    file = project / "hello.py"
    code = file.read_text()
    mistakes = {
        "def f(:\n": r"hello.py:1: SyntaxError: invalid syntax",
        "import nothing_of_this_name\n": r"hello.py:1: ModuleNotFoundError: .*",
    }
    file.write_text(next(iter(mistakes)))
    daemon = run("hello:Container", "--reload")
    daemon.wait_for(r"\[ERROR\] .*hello.py:1: SyntaxError: invalid syntax; waiting for a change")
    until_watching(daemon, file)
    for mistake, told in mistakes.items():
        mark = daemon.mark()
        file.write_text(mistake + "\n")
        daemon.wait_for(rf"Reload failed: {told}", after=mark)
        until(lambda: not daemon.workers(), "a broken worker stayed")
    mark = daemon.mark()
    file.write_text(code)
    daemon.ready(after=mark)
    assert says(daemon, "first")
    assert daemon.stop() == 0


def test_who_stands_in_a_debugger_is_not_killed(run: Callable[..., Daemon], project: Path) -> None:
    file = project / "hello.py"
    code = file.read_text().replace("time.sleep(60)", "time.sleep(4); return await index(request)")
    file.write_text("import time\ntime.sleep(2)\n" + code)  # as breakpoint() would at the import
    daemon = run("hello:Container", "--reload", "--timeout", "1", "--boot-timeout", "1").ready()
    worker = daemon.workers()[0]
    assert daemon.get("/block") == (200, {"message": "first", "pid": worker})
    assert daemon.get() == (200, {"message": "first", "pid": worker})
    assert daemon.stop() == 0


def test_ctrl_c_reaches_the_master_alone(run: Callable[..., Daemon], project: Path) -> None:
    daemon = run("hello:Container", "--reload")
    daemon.wait_for("Booting worker")
    until(lambda: any(map(imports_as_reloader, session(daemon.pid))), "no reloader starts")
    os.killpg(daemon.pid, signal.SIGINT)
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.output


def imports_as_reloader(pid: int) -> bool:
    """Tell whether a process is the reloader, and Python would raise KeyboardInterrupt in it."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = int(re.findall(r"SigCgt:\s+(\w+)", status)[0], 16)
    return b"api_hour.master.reloader" in command and bool(caught >> (signal.SIGINT - 1) & 1)


def test_a_start_with_a_broken_configuration_waits_for_its_mend(
    run: Callable[..., Daemon], project: Path
) -> None:
    etc = project / "etc" / "hello"
    etc.mkdir(parents=True)
    (etc / "main.yaml").write_text("api_hour:\n  nonsense: 1\n")
    daemon = run("hello:Container", "--reload")
    daemon.wait_for(r"error: etc/hello/main.yaml:2: api_hour.nonsense .*; waiting for a change$")
    (etc / "main.yaml").write_text("")
    (etc / "gunicorn.conf.py").write_text("workers = 1 +\n")
    daemon.wait_for(r"error: etc/hello/gunicorn.conf.py:1: SyntaxError.*; waiting for a change$")
    (etc / "gunicorn.conf.py").write_text("workers = 2\n")
    assert says(daemon.ready(2), "first")
    assert daemon.stop() == 0

    (etc / "main.yaml").write_text("- 1\n")
    interrupted = run("hello:Container", "--reload")
    interrupted.wait_for("waiting for a change")
    assert interrupted.stop(signal.SIGINT) == -signal.SIGINT
    assert "Traceback" not in interrupted.output


def test_every_save_by_a_rename_is_seen(run: Callable[..., Daemon], project: Path) -> None:
    file, new = project / "hello.py", project / "hello.py.new"
    code = file.read_text()
    daemon = run("hello:Container", "--reload").ready()
    for word in ("second", "third", "fourth"):
        new.write_text(code.replace("first", word))
        new.rename(file)
        until(lambda word=word: says(daemon, word), f"{word} is not served")  # type: ignore[misc]


def test_folders_that_are_made_anew_and_links_that_move_are_watched(
    run: Callable[..., Daemon], project: Path
) -> None:
    code = (project / "hello.py").read_text()
    package, etc, releases = project / "shop", project / "etc" / "shop", project / "releases"
    for number in (1, 2):
        (releases / f"{number}").mkdir(parents=True)
        (releases / f"{number}" / "main.yaml").write_text("")
    package.mkdir()
    (package / "__init__.py").write_text(code)
    etc.parent.mkdir()
    etc.symlink_to(releases / "1")
    daemon = run("shop:Container", "--reload").ready()
    until_watching(daemon, package / "__init__.py")

    def reloads_after(change: Callable[[], object], told: str = "Reloaded") -> None:
        mark = daemon.mark()
        change()
        daemon.wait_for(told, after=mark)

    def move_link() -> None:
        (project / "link").symlink_to(releases / "2")
        (project / "link").replace(etc)

    shutil.copytree(package, project / "kept")
    reloads_after(lambda: shutil.rmtree(package), "Reload failed.*ModuleNotFoundError")
    reloads_after(lambda: shutil.copytree(project / "kept", package))
    reloads_after(lambda: (package / "__init__.py").write_text(code.replace("first", "second")))
    until(lambda: says(daemon, "second"), "the edit is not served")
    reloads_after(move_link)
    reloads_after(lambda: (releases / "2" / "main.yaml").write_text("# edited"))
    reloads_after(lambda: shutil.rmtree(releases / "2"))
    reloads_after(lambda: shutil.copytree(releases / "1", releases / "2"))
    reloads_after(lambda: (releases / "2" / "main.yaml").write_text("# again"))


def test_a_live_reload_that_ends_is_told_and_starts_again(
    run: Callable[..., Daemon], project: Path
) -> None:
    daemon, file, code = reloading(run, project)
    for count, pause in enumerate(("0.0", "0.2"), 1):
        [reloader] = [pid for pid in session(daemon.pid) if imports_as_reloader(pid)]
        os.kill(reloader, signal.SIGKILL)
        told = rf"Live reload has ended \(signal SIGKILL: .*\) and starts again in {pause} s"
        daemon.wait_for(told)
        file.write_text(code.replace("first", f"edit {count}"))
        until(lambda count=count: says(daemon, f"edit {count}"), "an edit is lost")  # type: ignore[misc]
    assert daemon.output.count("Live reload has ended") == 2
    assert daemon.stop() == 0


@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_files_are_watched_without_the_kernel_at_the_limit_of_inotify(
    run: Callable[..., Daemon], project: Path, limit: str
) -> None:
    limited = f'echo 0 > /proc/sys/user/{limit} && exec "$@"'
    command = ("unshare", "--user", "--map-root-user", "sh", "-c", limited, "-", *API_HOUR)
    if subprocess.run([*command[:6], "true"], capture_output=True).returncode:
        pytest.skip("user namespaces are refused here")
    file = project / "hello.py"
    code = file.read_text()
    listen = ("--listen", "http=tcp://127.0.0.1:0")
    with Daemon(project, "hello:Container", "--reload", *listen, command=command) as daemon:
        daemon.ready().wait_for("Looking at every file again and again, .*(limit|open files)")
        until_watching(daemon, file)
        file.write_text(code.replace("first", "second"))
        until(lambda: says(daemon, "second"), "the edit is not served")
        assert daemon.stop() == 0
