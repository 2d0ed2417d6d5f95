"""Filters that write an answer into a file of another language, so that it stays the same text."""

import re
import shlex

from jinja2 import Environment
from jinja2.ext import Extension


class Escapes(Extension):
    """Offer the filters ``toml``, ``rst`` and ``make_word``; answers are printable single lines."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters |= {"toml": toml, "rst": rst, "make_word": make_word}


def toml(text: str) -> str:
    """Return ``text`` as a basic string of TOML, with its quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def rst(text: str) -> str:
    """Return ``text`` as reStructuredText that means the same, at the start of a line too."""
    text = re.sub(r"([\\`*|_])", r"\\\1", text)
    text = re.sub(r"^(?=[^\w\s\\])", r"\\", text)  # a bullet, a field, a directive, a rule
    text = re.sub(r"^(\w+)(?=[.)]\s)", r"\1\\", text)  # an enumeration
    return re.sub(r":(?=:$)", r":\\", text)  # a literal block


def make_word(text: str) -> str:
    """Return ``text`` as one word of the shell, in the value of a variable of a Makefile."""
    return shlex.quote(text).replace("$", "$$").replace("#", "\\#")
