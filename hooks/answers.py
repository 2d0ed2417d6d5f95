"""Answers are data: a template's tag in one is never evaluated.

Cookiecutter renders the answers of a command line, of a configuration file and of a caller's
``extra_context`` like the defaults in ``cookiecutter.json``, before any hook runs. An expression of
Jinja can reach every Python object, so an answer could run commands. An environment tells neither
who wrote a text nor which question it answers, but this template itself uses few expressions
outside of its files. Whatever else has a tag becomes a literal of itself, which
``pre_gen_project.py`` refuses by the name of its question.
"""

from jinja2 import Environment
from jinja2.ext import Extension

# All of cookiecutter.json, of the hooks and of the names of files. They run no code of an answer.
OUR_EXPRESSIONS = (
    "<<cookiecutter.project_slug>>",
    "<< cookiecutter | tojson >>",
    "<< cookiecutter.project_name | slugify(separator='_') or 'hello' >>",
)


class Answers(Extension):
    """Makes cookiecutter read an answer as text, also if it has tags."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._tags = (
            environment.variable_start_string,
            environment.block_start_string,
            environment.comment_start_string,
        )

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return a source as it is if it is the template's own, else as one literal."""
        rest = source
        for expression in OUR_EXPRESSIONS:
            rest = rest.replace(expression, "\0")
        if name is not None or not any(tag in rest for tag in self._tags):
            return source
        escaped = "".join(f"\\U{ord(character):08x}" for character in source)
        return f"<< '{escaped}' >>"
