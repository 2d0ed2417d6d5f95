"""Hypothesis tries as many examples as the environment variable EXAMPLES says, 100 by default.

``make test-unit`` asks for few, ``make test-long`` for many.
"""

import pytest
from hypothesis import HealthCheck, settings

from api_hour.logs import files, rate_limit
from runtime.tests.examples import count

settings.register_profile(
    "patient",  # an example may take as long as a busy machine needs
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=count(100),
)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def fresh_logs() -> None:
    """Let each test see what it logs, however often others have, and into whose files."""
    rate_limit.forget()
    files.belong_to(files.Owners())
