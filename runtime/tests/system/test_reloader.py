"""Reload in development: an edit is served, a mistake is reported and its fix needs no restart."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from testkit.processes import Daemon
from testkit.waiting import until


def test_edits_are_served_and_mistakes_are_survived(
    run: Callable[..., Daemon], project: Path
) -> None:
    file = project / "hello.py"
    code = file.read_text()
    daemon = run("hello:Container", "--reload").ready()
    until_watching(daemon, file)
    file.write_text(code.replace('"first"', '"second"'))
    until(lambda: says(daemon, "second"), "the edit is not served")
    until(lambda: len(daemon.workers()) == 1, "the old worker stayed")
    mark = daemon.mark()
    file.write_text(code + "\ndef f(:\n")
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


def test_two_edits_of_one_size_within_a_second_are_both_served(
    run: Callable[..., Daemon], project: Path
) -> None:
    file = project / "hello.py"
    code = file.read_text()
    daemon = run("hello:Container", "--reload").ready()
    until_watching(daemon, file)
    for word in ("alpha", "bravo", "gamma"):
        file.write_text(code.replace("first", word))
        until(lambda word=word: says(daemon, word), f"{word} is not served")  # type: ignore[misc]


def test_the_reloader_ends_with_a_killed_master(run: Callable[..., Daemon]) -> None:
    daemon = run("hello:Container", "--reload").ready()
    daemon.process.kill()
    daemon.wait()
