"""blocking: every note is stored once, and no thread that stores one is interrupted."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from examples.tests.json_client import JSONClient
from testkit.processes import Daemon
from testkit.reloads import work_through_three_reloads


def test_three_reloads_lose_and_duplicate_no_note(
    serve: Callable[..., Daemon], tmp_path: Path
) -> None:
    file = str(tmp_path / "notes.sqlite")
    daemon = serve("blocking", "notes:Container", {"http": "tcp://127.0.0.1:0"}, NOTES=file)
    taken = []

    def client(turns: Iterator[int]) -> None:
        with closing(JSONClient(daemon)) as http:
            for number in turns:
                status, note = http.ask("POST", "/notes", {"text": f"note {number}"})
                assert (status, note["text"]) == (201, f"note {number}")
                taken.append(note)

    work_through_three_reloads(daemon, client, client, client)
    with closing(JSONClient(daemon)) as http:
        shown = http.ask("GET", "/notes")
        assert http.ask("POST", "/notes", {"texts": "?"})[0] == 422
    assert shown == (200, sorted(taken, key=lambda note: note["id"]))
    assert daemon.stop() == 0
