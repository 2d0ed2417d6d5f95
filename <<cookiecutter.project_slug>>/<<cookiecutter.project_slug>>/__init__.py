"""The daemon. Start with container.py, the wiring, and routes.py, the URLs."""

from .container import Container

__all__ = ["Container"]
