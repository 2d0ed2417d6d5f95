"""`make audit` of this repository says what is known, and fails if it cannot look."""

import os
import subprocess

import pytest

from testkit.advisories import advisories
from testkit.projects import ROOT


@pytest.mark.parametrize(
    ("answer", "code"),
    [('{"vulns": []}', 0), ('{"vulns": [{"id": "PYSEC-1", "affected": []}]}', 2), (None, 2)],
)
def test_an_audit_succeeds_only_if_the_look_up_found_nothing(answer: str | None, code: int) -> None:
    command = ["make", "--no-print-directory", "--old-file=.venv/.dev", "audit"]
    with advisories(answer) as service:
        environment = {**os.environ, **service}
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    assert result.returncode == code, result.stdout + result.stderr
    assert ("PYSEC-1" in result.stdout) is ("PYSEC-1" in (answer or ""))
    assert ("gunicorn" in result.stdout) is ("PYSEC-1" in (answer or ""))
    assert ("nothing was audited" in result.stderr) is (answer is None)
