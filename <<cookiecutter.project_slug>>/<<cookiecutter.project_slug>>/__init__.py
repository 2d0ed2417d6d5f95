"""The daemon: container.py wires it, routes.py names its URLs; begin there."""

from .container import Container

__all__ = ["Container"]
