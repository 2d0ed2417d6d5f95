"""The errors of the package: one family, so that a project can catch what it means."""

import re
import tomllib
from pathlib import Path

import pytest

import api_hour
from api_hour import exceptions

FAMILY = {
    "APIHourError": (Exception,),
    "ConfigError": (api_hour.APIHourError,),
    "DatabaseError": (api_hour.APIHourError,),
    "DatabaseUnavailable": (api_hour.DatabaseError, api_hour.EngineUnavailable),
    "EngineUnavailable": (api_hour.APIHourError,),
    "InvalidArgument": (api_hour.DatabaseError,),
    "PoolExhausted": (api_hour.DatabaseError,),
    "QueryTimeout": (api_hour.DatabaseError,),
}


@pytest.mark.parametrize(("name", "parents"), FAMILY.items())
def test_every_error_has_its_place_in_the_family(name: str, parents: tuple[type, ...]) -> None:
    error = getattr(exceptions, name)
    assert error.__bases__ == parents
    assert getattr(api_hour, name) is error
    assert error.__doc__


def test_there_is_no_other_error() -> None:
    kinds = {name for name, value in vars(exceptions).items() if isinstance(value, type)}
    assert kinds == FAMILY.keys()


@pytest.mark.parametrize("name", FAMILY)
def test_an_error_is_raised_with_one_message(name: str) -> None:
    error = getattr(exceptions, name)
    with pytest.raises(error, match=r"^what is wrong, and the cure$"):
        raise error("what is wrong, and the cure")


RUNTIME = Path(api_hour.__file__).parent.parent


def test_the_cures_install_what_the_extras_bring() -> None:
    project = tomllib.loads((RUNTIME / "pyproject.toml").read_text())["project"]
    for extra, cure in exceptions.INSTALL.items():
        assert cure == "pip install " + " ".join(
            f"'{need}'" for need in project["optional-dependencies"][extra]
        )


def test_no_message_and_no_page_installs_the_runtime_from_an_index() -> None:
    root = RUNTIME.parent
    files = [*RUNTIME.rglob("*.py"), *root.glob("*.rst")]
    for folder in ("runtime", "docs", "examples", "hooks", "<" + "<cookiecutter.project_slug>>"):
        files += [*(root / folder).rglob("*.rst"), *(root / folder).rglob("*.py")]
    installs = re.compile(r"install[^\n]*api.hour.runtime(?![^\n]*(\.whl|git\+|@ ))")
    found = [str(file) for file in files if installs.search(file.read_text())]
    assert found == []
