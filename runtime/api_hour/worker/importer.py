"""Import what ``package.module:Name`` names, and explain in one line why that failed."""

import importlib
import os
import pwd
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from api_hour.config.generation import split
from api_hour.exceptions import ConfigError
from api_hour.logs import observers


def load(spec: str) -> Any:
    """Import and return what ``spec`` names; raises ConfigError if the module has no such name."""
    module_name, name = split(spec)
    module = importlib.import_module(module_name)
    try:
        return getattr(module, name)
    except AttributeError:
        location = shorten(module.__file__ or module_name)
        raise ConfigError(f"{location} has no {name}: define it there, or name another") from None


def explain(spec: str, error: BaseException) -> str:
    """Return an error of the project's code as one line that begins with its file and line."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shorten(error.filename)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    text = observers.describe(error)
    if denied := _denied(error):
        text += f"; {denied}"
    elif isinstance(error, ModuleNotFoundError) and error.name == split(spec)[0].partition(".")[0]:
        text += f"; run it in the folder that holds {error.name}, or install it"
    return f"{_location(error.__traceback__) or spec}: {text}"


def _denied(error: BaseException) -> str:
    """Return which file or folder this process's user may not use, and the cure; or "".

    To Python, a folder of ``sys.path`` that it may not read has no modules.
    """
    paths: list[Any] = sys.path if isinstance(error, ModuleNotFoundError) else []
    if isinstance(error, PermissionError):
        paths = [error.filename]
    for path in (Path(working_folder(), path) for path in paths if isinstance(path, str)):
        for place in filter(os.path.exists, (*reversed(path.parents), path)):
            enters = os.access(place, os.X_OK) or not place.is_dir()
            if not enters or (place == path and not os.access(place, os.R_OK)):
                return (
                    f"user {_user()} may not {'read' if enters else 'enter'} {place}: allow it, or "
                    "set another `user`"
                )
    return ""


def _user() -> str:
    """Return the name of this process's user, or its number without one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def shorten(filename: str) -> str:
    """Return a path relative to the working directory if it lies below it."""
    folder = working_folder()
    path = Path(filename)
    below = folder and path.is_absolute() and path.is_relative_to(folder)
    return str(path.relative_to(folder)) if below else filename


def working_folder() -> str:
    """Return the working directory, or "" if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def innermost(stack: str, folder: str) -> str:
    """Return where a stack of ``faulthandler`` stands in the code below ``folder``, or "".

    A stack begins with its innermost frame.
    """
    for filename, line, function in re.findall(r'File "(.+)", line (\d+) in (.+)', stack):
        path = os.path.join(folder, filename)  # an absolute one stays itself
        if not filename.startswith("<") and _is_of_project(path, folder):
            return f"{os.path.relpath(path, folder)}:{line} in {function}"
    return ""


def _location(trace: TracebackType | None) -> str:
    """Return file:line of the innermost frame in the project's own code, or ""."""
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if _is_of_project(frame.filename, working_folder())
    ]
    return f"{shorten(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def _is_of_project(filename: str, folder: str) -> bool:
    below = bool(folder) and filename.startswith(folder.rstrip(os.sep) + os.sep)
    return below and "site-packages" not in filename
