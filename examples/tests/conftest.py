"""The examples as daemons of two workers on free ports, and one PostgreSQL for all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api_hour.plugins import embedded
from testkit.processes import Daemon

EXAMPLES = Path(__file__).parents[1]


@pytest.fixture
def serve() -> Iterator[Callable[..., Daemon]]:
    """Return a function that starts an example, with the URLs of its listeners."""
    with ExitStack() as daemons:

        def start(
            folder: str, spec: str, listen: dict[str, str], *, workers: int = 2, **variables: str
        ) -> Daemon:
            options = [f"--workers={workers}"]
            options += [f"--listen={name}={url}" for name, url in listen.items()]
            daemon = Daemon(EXAMPLES / folder, spec, *options, variables=variables)
            return daemons.enter_context(daemon).ready(workers)

        yield start


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a PostgreSQL that all examples share; each has tables of its own."""
    with embedded.postgresql(tmp_path_factory.mktemp("postgresql"), own=True) as server:
        yield server.url
