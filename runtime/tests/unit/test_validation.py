"""Sentences of msgspec, said in plain words."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest

from api_hour import validation


class Status(Enum):
    NEW = "new"
    SENT = "sent"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Pair(NamedTuple):
    left: int
    right: int = 0


ONE = msgspec.Meta(min_length=1)
SAID = [
    (int, "x", "must be an integer"),
    (Annotated[int, msgspec.Meta(ge=1)], "0", "must be an integer >= 1"),
    (int, "9" * 5000, "is out of range"),
    (float, "x", "must be a number"),
    (Annotated[float, msgspec.Meta(multiple_of=0.5)], 0.3, "must be a number that's a multiple of"),
    (bool, "maybe", "must be true or false"),
    (Status, "old", "must be one of 'new', 'sent'"),
    (Level, "7", "must be one of 1, 2"),
    (Literal["a", "b"], "c", "must be one of 'a', 'b'"),
    (date, "x", "must be a date, such as 2026-01-31"),
    (datetime, "x", "must be a date and time, such as 2026-01-31T12:30:00Z"),
    (time, "x", "must be a time, such as 12:30:00"),
    (timedelta, "x", "must be a duration, such as PT1H30M"),
    (UUID, "x", "must be a UUID"),
    (Decimal, "x", "must be a decimal number"),
    (bytes, "%", "must be text in base64"),
    (Annotated[str, ONE], "", "must be a string of at least 1 character"),
    (Annotated[str, msgspec.Meta(max_length=2)], "abc", "must be a string of at most 2 characters"),
    (Annotated[str, msgspec.Meta(pattern="^a")], "b", "must be a string that matches '^a'"),
    (Annotated[list[int], ONE], [], "must be an array of at least 1 item"),
    (Annotated[dict[str, int], ONE], {}, "must be an object of at least 1 key"),
    (Annotated[bytes, ONE], "", "must be bytes of at least 1 byte"),
    (tuple[int, int], [1], "must be an array of 2 items"),
    (Pair, [], "must be an array of 1 to 2 items"),
    (int | str | None, [], "must be an integer or a string or null"),
]


@pytest.mark.parametrize(("declared", "value", "rule"), SAID, ids=[str(row[2]) for row in SAID])
def test_a_rule_is_said_in_plain_words(declared: Any, value: object, rule: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, declared, strict=False)
    violation = validation.read(caught.value, declared)
    assert violation.rule.startswith(rule)
    assert violation.rule == rule or rule.endswith(" of")
    assert not violation.own
