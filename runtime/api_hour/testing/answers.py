"""What a client of a test was answered."""

import json
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDictProxy


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, headers in any case, and the body."""

    status: int
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes

    @property
    def text(self) -> str:
        """The body as text (UTF-8)."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body as JSON; raises AssertionError, with the answer, if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise AssertionError(f"the body is not JSON ({error}): {self}") from None
