"""An environment is made once for its pinned requirements, and again if that failed."""

from pathlib import Path

import pytest

from benchmarks.contender import Contender, Declaration
from benchmarks.installation import Installation, InstallationError


@pytest.mark.slow
def test_an_environment_is_made_once_and_again_when_its_requirements_change(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    declared = Declaration(
        title="One", command=["x"], cases=[], prepare=[["cp", "{folder}/requirements.txt", "."]]
    )
    installation = Installation(Contender("one", folder, declared), tmp_path / "venvs")
    requirements = folder / "requirements.txt"
    requirements.write_text("# nothing\n")
    installation.make()
    assert (installation.prepared / "requirements.txt").read_text() == "# nothing\n"
    assert installation.versions() == {}
    mark = installation.folder / "mark"
    mark.touch()
    installation.make()
    assert mark.exists()
    requirements.write_text("--no-index\nnothing-of-this-name==1\n")
    for _ in range(2):
        with pytest.raises(InstallationError, match="No matching distribution found"):
            installation.make()
    assert not mark.exists()
