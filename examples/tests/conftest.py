"""The examples as daemons of two workers, on free ports; one PostgreSQL for those that need it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon import Daemon

EXAMPLES = Path(__file__).parents[1]


@pytest.fixture
def serve() -> Iterator[Callable[..., Daemon]]:
    """Return a function that starts an example, with the URLs of its listeners."""
    with ExitStack() as daemons:

        def start(folder: str, spec: str, listen: dict[str, str], **environ: str) -> Daemon:
            listeners = [f"--listen={name}={url}" for name, url in listen.items()]
            daemon = Daemon(EXAMPLES / folder, spec, "--workers=2", *listeners, **environ)
            return daemons.enter_context(daemon).ready(2)

        yield start
