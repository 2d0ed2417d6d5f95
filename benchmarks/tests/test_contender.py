"""The declarations of the folders, and how a wrong declaration is refused."""

import re
from pathlib import Path

import msgspec
import pytest

from benchmarks import contender
from benchmarks.case import ALL
from benchmarks.installation import Installation

CONTENDERS = contender.discover()
FOLDERS = sorted({entry.folder for entry in CONTENDERS.values()})


def test_every_folder_of_a_contender_is_found_and_ours_comes_first() -> None:
    folders = {path for path in contender.FOLDER.iterdir() if path.is_dir()}
    assert {entry.folder for entry in CONTENDERS.values()} == folders
    assert list(CONTENDERS)[:3] == ["api-hour", "api-hour-asyncpg", "api-hour-stock"]


def test_the_contenders_are_those_that_the_docs_promise() -> None:
    promised = "api-hour api-hour-stock project aiohttp flask django fastapi starlette blacksheep"
    promised += " granian socketify fastpysgi sanic robyn litestar django-ninja parser nginx"
    assert set(promised.split()) <= set(CONTENDERS)
    typed = "api-hour api-hour-stock api-hour-by-hand aiohttp fastapi-typed litestar"
    typed += " blacksheep-typed robyn django-ninja"
    assert {name for name in CONTENDERS if "typed" in CONTENDERS[name].cases} == set(typed.split())


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_declaration_names_known_cases_and_its_braces_can_be_filled(
    name: str, tmp_path: Path
) -> None:
    fill = Installation(CONTENDERS[name], tmp_path).fill(25000)
    declaration = CONTENDERS[name].declaration
    assert set(declaration.cases) <= set(ALL)
    words = [*declaration.command, *declaration.environment.values()]
    filled = " ".join(fill(words))
    assert "25000" in filled
    assert "{" not in filled
    assert declaration.kind in ("framework", "bare", "floor", "shapes")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_requirement_is_pinned(folder: Path) -> None:
    file = folder / "requirements.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    pinned = re.compile(r"#.*|-e \.\./.*|[\w.-]+==[\w.]+")
    assert [line for line in lines if not pinned.fullmatch(line)] == []
    assert lines or folder.name == "nginx"


def test_the_same_library_has_the_same_version_everywhere() -> None:
    versions: dict[str, set[str]] = {}
    for file in contender.FOLDER.glob("*/requirements.txt"):
        for name, version in re.findall(r"^([\w.-]+)==([\w.]+)$", file.read_text(), re.M):
            versions.setdefault(name.lower(), set()).add(version)
    # Robyn pins its own.
    assert {name: found for name, found in versions.items() if len(found) > 1} == {
        "uvloop": {"0.22.1", "0.23.0"},
        "multidict": {"6.9.1", "7.2.1"},
    }


def test_paths_are_replaced_where_a_contender_has_others() -> None:
    assert CONTENDERS["project"].cases["index"].path == "/"
    assert CONTENDERS["api-hour"].cases["index"].path == "/index"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    some = {name: CONTENDERS[name] for name in ("flask", "django")}
    with pytest.raises(LookupError) as error:
        contender.select(some, ["flsk"])
    assert str(error.value) == "no contender is named 'flsk': there are flask, django"
    assert contender.select(some, []) == list(some.values())


def test_an_unknown_word_in_a_declaration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    file = tmp_path / "one/contender.toml"
    file.write_text('[one]\ntitle = "One"\ncommand = []\ncases = []\nspeed = "high"\n')
    with pytest.raises(msgspec.ValidationError, match="unknown field `speed`"):
        contender.discover(tmp_path)


def test_a_missing_program_is_named() -> None:
    declaration = msgspec.structs.replace(CONTENDERS["nginx"].declaration, programs=["no-such"])
    nginx = contender.Contender("nginx", Path(), declaration)
    assert nginx.missing == ["no-such"]
