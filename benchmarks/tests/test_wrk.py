"""wrk and the client of the instructions send the same request."""

import socket
from pathlib import Path
from threading import Thread

from benchmarks import wrk
from benchmarks.case import CASES
from benchmarks.plan import Plan
from benchmarks.tests.conftest import needs_wrk


@needs_wrk
def test_wrk_sends_what_the_client_of_the_instructions_sends() -> None:
    case = CASES["echo"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received = []

        def serve() -> None:
            # wrk first connects once to see whether a server listens.
            for _ in range(2):
                accepted, _ = listener.accept()
                with accepted:
                    received.append(accepted.recv(65536))

        thread = Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        wrk.run(case, port, 1, Plan.short(venvs=Path(), port=port))
        thread.join(10)
    assert sorted(received[-1].split(b"\r\n")) == sorted(case.request.split(b"\r\n"))
