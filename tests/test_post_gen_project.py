"""The hook's table matches the template and its options, and a failing hook says why."""

import json
import shutil
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException

from hooks.post_gen_project import FILES, File
from testkit.projects import OPTIONS, ROOT, bake

SLUG = "<" + "<cookiecutter.project_slug>>"
TEMPLATE = ROOT / SLUG
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text())


def answers(option: str) -> set[str | bool]:
    """Return every answer that an option takes."""
    asked = QUESTIONS[option]
    return set(asked) if isinstance(asked, list) else {True, False}


def test_the_name_of_a_template_file_has_no_tag_but_the_slug() -> None:
    names = [str(path.relative_to(TEMPLATE)) for path in TEMPLATE.rglob("*")]
    assert names
    assert [name for name in names if "<" in name.replace(SLUG, "")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path.replace(SLUG, "hello"))
def test_a_row_names_a_file_of_the_template_and_answers_of_its_options(file: File) -> None:
    assert (TEMPLATE / file.path).is_file()
    assert file.answers
    for option, chosen in file.answers.items():
        assert option in OPTIONS
        assert set(chosen) < answers(option), "with every answer the file always stays"
        assert {type(answer) for answer in chosen} == {type(answer) for answer in answers(option)}


def test_a_file_has_one_row() -> None:
    paths = [file.path for file in FILES]
    assert sorted(set(paths)) == sorted(paths)


def test_a_row_without_its_file_stops_the_generation(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "template"
    shutil.copytree(ROOT / "hooks", template / "hooks")
    shutil.copytree(TEMPLATE, template / SLUG)
    shutil.copy(ROOT / "cookiecutter.json", template)
    (template / SLUG / "tests" / "conftest_none.py").unlink()
    with pytest.raises(FailedHookException):
        bake(tmp_path / "out", template)
    said = capfd.readouterr().err
    assert said.startswith("Cannot remove the files that were not chosen: ")
    assert "hello/tests/conftest_none.py" in said
    assert list((tmp_path / "out").iterdir()) == []
