"""Directives that read the product itself, so that the reference cannot become stale.

``settings`` describes settings of the process manager, ``refused-settings`` and ``warned-settings``
those that it refuses or warns of, ``template-options`` the questions of the starter kit,
``said-by`` what a program says.
"""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from gunicorn.config import KNOWN_SETTINGS
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from api_hour.config import command_line, gunicorn_settings

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {setting.name: setting for setting in KNOWN_SETTINGS}
WIDTH = "88"  # columns of what a program says


class Settings(SphinxDirective):
    """Describe the settings that the content names, or all of a section of Gunicorn's."""

    has_content: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Return one entry for each."""
        names = " ".join(self.content).split()
        text = "\n".join(line for name in names for line in _entry(SETTINGS[name]))
        return self.parse_text_to_nodes(text)


class RefusedSettings(SphinxDirective):
    """List what cannot be set, and the cures."""

    settings: ClassVar[dict[str, str]] = gunicorn_settings.refused()

    def run(self) -> list[nodes.Node]:
        """Return a list of definitions: the names that share a cure, and the cure."""
        cures: dict[str, list[str]] = {}
        for name, cure in self.settings.items():
            cures.setdefault(cure, []).append(f"``{name}``")
        text = "\n".join(f"{', '.join(names)}\n    {cure}\n" for cure, names in cures.items())
        return self.parse_text_to_nodes(text)


class WarnedSettings(RefusedSettings):
    """List what has no effect, and why."""

    settings = gunicorn_settings.WARNED


class TemplateOptions(SphinxDirective):
    """Describe what cookiecutter asks."""

    def run(self) -> list[nodes.Node]:
        """Return one entry for each question."""
        asked = json.loads((ROOT / "cookiecutter.json").read_text())
        prompts = asked["__prompts__"]
        questions = {name: one for name, one in asked.items() if not name.startswith("_")}
        text = "\n".join(
            line for name, given in questions.items() for line in _question(given, name, prompts)
        )
        return self.parse_text_to_nodes(text)


class SaidBy(SphinxDirective):
    """Show what a module of API-Hour says of itself, run as a program."""

    required_arguments: ClassVar[int] = 1
    final_argument_whitespace: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Return the command and what it says."""
        command = [sys.executable, "-m", *self.arguments[0].split()]
        environment = os.environ | {"COLUMNS": WIDTH}
        said = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, check=True
        )
        block = nodes.literal_block(said.stdout, said.stdout, language="none")
        block["classes"].append("generated")
        return [block]


def _entry(setting: Any) -> Iterator[str]:
    """Yield the lines of one setting."""
    yield f".. confval:: {setting.name}"
    yield ""
    yield f"   {command_line.sentence(setting)}"
    if way := gunicorn_settings.ACTS_IN_OUR_WAY.get(setting.name):
        yield f"   Here: {way}."
    machines = command_line.OF_THE_MACHINE
    if not inspect.isroutine(setting.default) and setting.name not in machines:
        yield f"   Default: ``{setting.default!r}``."
    if setting.cli:
        yield f"   Option: {', '.join(f'``{option}``' for option in setting.cli)}."
    yield ""


def _question(given: Any, name: str, prompts: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one question."""
    prompt = prompts[name]
    choices = prompt if isinstance(prompt, dict) else {"__prompt__": prompt}
    yield f".. confval:: {name}"
    yield ""
    yield f"   {choices['__prompt__']}. Default: {_default(given)}."
    if isinstance(given, list):
        yield f"   One of {', '.join(f'``{one}`` ({choices[one]})' for one in given)}."
    yield ""


def _default(given: Any) -> str:
    if isinstance(given, list):
        return f"``{given[0]}``"
    if isinstance(given, bool):
        return "yes" if given else "no"
    if "<<" in given:
        return "made from ``project_name``"
    return f"``{given}``" if given else "empty"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives."""
    app.add_directive("settings", Settings)
    app.add_directive("refused-settings", RefusedSettings)
    app.add_directive("warned-settings", WarnedSettings)
    app.add_directive("template-options", TemplateOptions)
    app.add_directive("said-by", SaidBy)
    return {"version": "1", "parallel_read_safe": True}
