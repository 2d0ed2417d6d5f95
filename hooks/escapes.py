"""Filters that quote an answer for another language, so that it is read as the same text."""

import re
import shlex

from jinja2 import Environment
from jinja2.ext import Extension


class Escapes(Extension):
    """The filters ``toml``, ``rst`` and ``make_word``, for answers of one printable line."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters |= {"toml": toml, "rst": rst, "make_word": make_word}


def toml(text: str) -> str:
    """Return ``text`` as a TOML basic string, with quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def rst(text: str) -> str:
    """Return ``text`` as reStructuredText that renders as it, even at the start of a line."""
    text = re.sub(r"([\\`*|_])", r"\\\1", text)
    text = re.sub(r"^(?=[^\w\s\\])", r"\\", text)  # a bullet, a field, a directive, a rule
    text = re.sub(r"^(\w+)(?=[.)]\s)", r"\1\\", text)  # an enumeration
    return re.sub(r":(?=:$)", r":\\", text)  # a literal block


def make_word(text: str) -> str:
    """Return ``text`` as one shell word, for the value of a variable in a Makefile."""
    return shlex.quote(text).replace("$", "$$").replace("#", "\\#")
