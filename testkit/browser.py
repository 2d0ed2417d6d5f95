"""A headless Chromium that opens pages, presses buttons and tells everything that it asked for.

It is driven by the DevTools protocol, and reaches this machine only.
"""

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from testkit.processes import Program
from testkit.waiting import TIMEOUT, until

PROGRAM = "chromium"
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--hide-scrollbars"),
    *("--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
)


class Page:
    """A tab. ``asked`` holds the URLs that it has asked for, ``faults`` what its console told."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._session: dict[str, str] = {}  # of the browser itself, until there is a tab
        self.asked: list[str] = []
        self.faults: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: object) -> Any:
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters, **self._session}
        self._connection.send(json.dumps(call))
        while True:
            message = json.loads(self._connection.recv(TIMEOUT))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, told: Any) -> None:
        if event == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("warning", "error"):
            self.faults.append(told["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.faults.append(told["exceptionDetails"]["exception"].get("description", str(told)))

    def show(self, *, width: int, height: int, dark: bool = False) -> None:
        """Set the size of the window, and the colours that the user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to a URL; what is on the page comes later."""
        self._call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, as JSON has it."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Return the first true value of an expression."""
        return until(lambda: self.value(expression), f"{expression} is not true", pause=0.1)

    def text(self, selector: str) -> str:
        """Return the text of the first element that a selector finds, once there is one."""
        return str(self.until(f"document.querySelector({json.dumps(selector)})?.innerText"))

    def press(self, selector: str) -> None:
        """Press the first element that a selector finds, once there is one."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"{found} !== null")
        self.value(f"{found}.click()")

    def picture(self, file: Path) -> None:
        """Write what is seen into a file, as PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Run a Chromium, whose profile is in ``folder``, and give a page of it."""
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with Program(program, *OPTIONS, f"--user-data-dir={folder}") as running:
        url = running.wait_for(r"DevTools listening on (ws://\S+)")[1]
        with connect(url, max_size=None, proxy=None) as connection:
            yield Page(connection)
