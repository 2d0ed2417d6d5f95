"""The reference is complete: everything in the code is on its page, once."""

import ast

import msgspec
import pytest
from docutils import nodes
from gunicorn.config import KNOWN_SETTINGS
from sphinx import addnodes

import api_hour
from api_hour.config import addresses, loader, logging_yaml
from docs.tests.pages import DOCS, ROOT, built


def test_every_setting_is_on_its_page_once() -> None:
    described = [node.astext() for node in _described("reference/settings")]
    assert len(described) == len(set(described))
    known = {setting.name for setting in KNOWN_SETTINGS}
    assert {*described, *loader.REFUSED} == known
    assert {*described} & {*loader.REFUSED} == set()


def test_the_runtime_reads_no_setting_that_is_said_to_have_no_effect() -> None:
    """The runtime reads none of the settings of Gunicorn that "have no effect"."""
    section = (DOCS / "reference" / "settings.rst").read_text().split("without effect\n")[1]
    idle = set(section.split(".. settings::")[1].split())
    assert len(idle) > 40
    assert idle & _read_by_the_runtime() == set()


def test_every_public_name_is_in_the_api() -> None:
    objects = built().env.domains.python_domain.objects
    assert [name for name in api_hour.__all__ if f"api_hour.{name}" not in objects] == []


@pytest.mark.parametrize(
    "names",
    [
        ["url", *addresses.OPTIONS],
        [field.name for field in msgspec.structs.fields(logging_yaml._File)],
        [field.name for field in msgspec.structs.fields(logging_yaml._Logger)],
    ],
    ids=["options of a listener", "logging.yaml", "a logger"],
)
def test_every_key_is_among_the_yaml_keys(names: list[str]) -> None:
    tree = built().env.get_doctree("reference/yaml")
    literals = {node.astext() for node in tree.findall(nodes.literal)}
    assert [name for name in names if name not in literals] == []


def _described(page: str) -> list[nodes.Element]:
    tree = built().env.get_doctree(page)
    return [node[0] for node in tree.findall(addnodes.desc_signature)]


def _read_by_the_runtime() -> set[str]:
    """Return every attribute that is read from an object named ``cfg``."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "runtime").glob("api_hour/**/*.py")]
    attributes = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    ]
    return {node.attr for node in attributes if ast.unparse(node.value).endswith("cfg")}
