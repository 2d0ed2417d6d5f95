"""A data folder whose cluster is made once, and a check that nothing is left running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.tests.plugins.embedded.supervisor import run, wait_until_gone


@pytest.fixture(autouse=True)
def _no_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fail a test that leaves a process behind."""
    yield
    wait_until_gone(tmp_path)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a cluster; each test finds and leaves it without a running server."""
    folder = tmp_path_factory.mktemp("data") / ".data"
    code, _, errors = run(folder, "--", "true")
    assert code == 0, errors
    return folder
