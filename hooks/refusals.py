"""What a refused answer looks like: a line that says why, without cookiecutter's own traceback."""

import json
import logging
from difflib import get_close_matches
from pathlib import Path

import click
from jinja2 import Environment
from jinja2.ext import Extension

QUESTIONS = Path(__file__).parent.parent / "cookiecutter.json"


class Refusals(Extension):
    """Refuses answers to no question, and reports a hook that refuses in one line.

    ``--verbose`` shows everything.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        logging.getLogger("cookiecutter.hooks").addFilter(without_traceback)
        if command := click.get_current_context(silent=True):
            refuse_unknown(command.params.get("extra_context") or {})


def refuse_unknown(answers: dict[str, str]) -> None:
    """Refuse a name on the command line that cookiecutter would ignore."""
    known = json.loads(QUESTIONS.read_text())
    asked = [name for name in known if not name.startswith("_")]
    for name in answers.keys() - known:
        wanted = get_close_matches(name, asked, 1) or [", ".join(asked)]
        raise click.ClickException(
            f"the template does not ask for {name}, but for {wanted[0]}: {name}={answers[name]}"
        )


def without_traceback(record: logging.LogRecord) -> bool:
    """Keep a record, without the traceback of the program that has run the hook."""
    handlers = logging.getLogger("cookiecutter").handlers
    if all(handler.level > logging.DEBUG for handler in handlers):
        record.exc_info = None
    return True
