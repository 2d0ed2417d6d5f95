"""Attributes that are made when they are first read (functools.cached_property locks in 3.11)."""

from collections.abc import Callable
from typing import Any


class Lazy:
    """Be an attribute of an object until it is read; then the value of ``make`` takes its place."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, _owner: type) -> Any:
        if instance is None:
            return self
        value = self.make(instance)
        setattr(instance, self.name, value)  # by way of __dict__, every later access is slower
        return value
