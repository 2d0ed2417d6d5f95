"""The crash report: it needs no folder, and names the place in the project where a worker stood."""

import os
import tempfile

import pytest

from api_hour.worker.crash_report import CrashReport

STACKS = b"""Fatal Python error: Aborted

Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 1 in wait
  File "/srv/hello/other.py", line 9 in background

Current thread 0x00007f2 (most recent call first):
  File "<frozen runpy>", line 88 in _run_code
  File "/srv/hello/.venv/lib/site-packages/psycopg2/__init__.py", line 122 in connect
  File "/srv/hello/engines/db.py", line 7 in connect
  File "/srv/hello/container.py", line 3 in <module>

Extension modules: uvloop.loop
"""
ABORTED = 6  # as os.waitpid returns it


def test_a_report_needs_no_folder_that_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nosuch")
    report = CrashReport()
    assert report.describe(0, "", "/srv/hello") == "exit code 0"
    report.close()


def test_the_end_of_an_aborted_worker_names_the_place_in_the_project() -> None:
    report = CrashReport()
    os.write(report._file.fileno(), STACKS)
    end = report.describe(ABORTED, "is blocked", "/srv/hello")
    assert end == "it is blocked, at engines/db.py:7 in connect"
    assert report.describe(ABORTED, "is blocked", "/srv/other") == "it is blocked"
    report.close()


def test_a_signal_without_a_name_is_a_number() -> None:
    report = CrashReport()
    assert report.describe(40, "", "/") == "signal 40"
    assert report.describe(9, "", "/") == "signal SIGKILL: out of memory?"
    report.close()
