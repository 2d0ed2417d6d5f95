"""What a refused answer looks like: the hook's lines, without cookiecutter's own traceback."""

import logging

from jinja2 import Environment
from jinja2.ext import Extension


class Refusals(Extension):
    """Makes cookiecutter report a hook that refuses in one line; ``--verbose`` shows everything."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        logging.getLogger("cookiecutter.hooks").addFilter(without_traceback)


def without_traceback(record: logging.LogRecord) -> bool:
    """Keep a record, without the traceback of the program that has run the hook."""
    handlers = logging.getLogger("cookiecutter").handlers
    if all(handler.level > logging.DEBUG for handler in handlers):
        record.exc_info = None
    return True
