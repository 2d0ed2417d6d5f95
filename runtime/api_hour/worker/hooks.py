"""The hooks of ``gunicorn.conf.py``: what one of them raises becomes one line with its place."""

import traceback
from types import TracebackType
from typing import Any

from api_hour.exceptions import ConfigError
from api_hour.logs import observers
from api_hour.worker.importer import shorten


class HookError(ConfigError):
    """A hook has raised: its name, where it did, and what."""


def call(cfg: Any, name: str, *arguments: object) -> None:
    """Call the hook ``name``; raises HookError for anything it raises, SystemExit included."""
    try:
        cfg.settings[name].get()(*arguments)
    except BaseException as error:
        place = _place(error.__traceback__)
        text = f"the hook {name}{place and f' ({place})'} failed: {observers.describe(error)}"
        raise HookError(text) from error


def _place(trace: TracebackType | None) -> str:
    """Return file:line of the innermost frame in the hook's own file, or ""."""
    frames = traceback.extract_tb(trace)[1:]  # the first one is ours
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f"{shorten(own[-1].filename)}:{own[-1].lineno}" if own else ""
