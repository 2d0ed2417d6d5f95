"""The reference is complete: everything in the code is on its page, once."""

import msgspec
import pytest
from docutils import nodes
from gunicorn.config import KNOWN_SETTINGS
from sphinx import addnodes

import api_hour
from api_hour.config import addresses, gunicorn_settings, logging_yaml
from docs.tests.pages import built


def test_every_setting_is_on_its_page_once() -> None:
    described = [node.astext() for node in _described("reference/settings")]
    assert len(described) == len(set(described))
    idle = {*gunicorn_settings.REFUSED, *gunicorn_settings.WARNED} - gunicorn_settings.own()
    assert {*described, *idle} == {setting.name for setting in KNOWN_SETTINGS}
    assert {*described} & idle == set()
    page = built().env.get_doctree("reference/settings").astext()
    assert [name for name in idle if name not in page] == []


def test_every_public_name_is_in_the_api() -> None:
    objects = built().env.domains.python_domain.objects
    assert [name for name in api_hour.__all__ if f"api_hour.{name}" not in objects] == []


@pytest.mark.parametrize(
    "names",
    [
        ["url", *addresses.OPTIONS, *addresses.SOCKET_OPTIONS],
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
