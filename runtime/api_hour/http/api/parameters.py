"""The words of a signature: where the value of a parameter comes from.

``Body[T]`` is ``Annotated[T, marker]``, so type checkers read it as ``T``.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from api_hour.http.api.operation import BODY, COOKIE, FORM, HEADER, QUERY

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """The marker of a parameter, for ``typing.get_type_hints``."""

    name: str


Body = Annotated[T, Place(BODY)]
Query = Annotated[T, Place(QUERY)]
Header = Annotated[T, Place(HEADER)]
Cookie = Annotated[T, Place(COOKIE)]
Form = Annotated[T, Place(FORM)]

# PostgreSQL stores every character except NUL.
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$", description="Text without NUL.")]
