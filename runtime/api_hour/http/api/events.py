"""Server-Sent Events"""
from typing import Generic, TypeVar

T = TypeVar("T")


class Event(Generic[T]):
    """stub"""


async def stream(request, events):
    raise NotImplementedError
