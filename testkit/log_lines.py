"""The lines of the log, as the standard formatters write them."""

import json
from typing import Any

HEAD = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4}\] \[(\d+)\] \[(\w+)\] \[([\w.]+)\] "


def read(line: str) -> dict[str, Any]:
    """Return the object in a line; fails unless it is strict JSON in printable ASCII."""
    assert line.isascii()
    assert line.isprintable()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    record: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return record
