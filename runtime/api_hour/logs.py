"""Where log records go: the project's and the libraries' join the daemon's own."""

import logging


def join(daemon: logging.Logger) -> None:
    """Give the root logger the handlers of ``daemon``, unless it has been configured already."""
    root = logging.getLogger()
    if not root.handlers:
        root.handlers = list(daemon.handlers)
        root.setLevel(daemon.getEffectiveLevel())
