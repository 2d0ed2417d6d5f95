"""The comparison page shows what a run found, and the trials find what happens."""

import re
from dataclasses import replace
from pathlib import Path

import docutils.core
import msgspec
import pytest

from benchmarks.behaviour import features, trials
from benchmarks.behaviour.__main__ import main
from benchmarks.behaviour.declaration import HERE, Entrant, discover
from benchmarks.behaviour.facts import Facts, Full, Hook, Results, Stale
from benchmarks.behaviour.table import NOT_RUN, PAGE, ROWS, render
from benchmarks.behaviour.trials import Form

RESULTS = HERE / "results.json"
SHORT = Form(reloads=1, calm=60, watch=1.0, bound=30.0)
CLIENTS = 20
WATCHED = 10  # seconds, as the rows say


@pytest.fixture
def entrant(request: pytest.FixtureRequest, tmp_path: Path) -> Entrant:
    """Return the server of that name, from this Python's environment."""
    (entrant,) = discover(tmp_path, [request.param], here=True)
    return entrant


@pytest.mark.parametrize("entrant", ["api-hour"], indirect=True)
def test_the_clients_see_that_api_hour_loses_nothing_at_a_reload(entrant: Entrant) -> None:
    fact = trials.reload(entrant, SHORT)
    assert fact.losses.lost == {}
    assert fact.losses.requests > 2 * SHORT.calm
    assert None not in fact.seconds


@pytest.mark.parametrize("entrant", ["api-hour"], indirect=True)
def test_the_clients_see_that_api_hour_survives_a_reload_of_broken_code(entrant: Entrant) -> None:
    fact = trials.broken(entrant, SHORT)
    assert fact.runs
    assert fact.workers == entrant.declaration.workers
    assert fact.answered == fact.asked > 0
    assert fact.losses.lost == {}


@pytest.mark.slow
@pytest.mark.parametrize("entrant", ["gunicorn"], indirect=True)
def test_the_clients_see_that_gunicorn_stops_serving_at_a_reload_of_broken_code(
    entrant: Entrant,
) -> None:
    fact = trials.broken(entrant, replace(SHORT, watch=10.0))  # it exits after about one
    assert fact.answered == 0 < fact.asked
    assert fact.losses.lost["refused"] > 0


@pytest.mark.parametrize("entrant", ["gunicorn", "api-hour"], indirect=True)
def test_the_clients_lose_the_requests_of_a_killed_worker_and_see_its_successor(
    entrant: Entrant,
) -> None:
    fact = trials.crash(entrant, SHORT)
    assert fact.runs
    assert fact.replaced is not None
    assert sum(fact.losses.lost.values()) <= CLIENTS


@pytest.mark.parametrize("entrant", ["api-hour"], indirect=True)
def test_the_clients_see_that_api_hour_survives_a_hook_that_raises(entrant: Entrant) -> None:
    fact = trials.hook(entrant, SHORT)
    assert fact.name == "``post_fork``"
    assert fact.reload is not None
    assert fact.reload.answered == fact.reload.asked > 0
    assert fact.reload.losses.lost == {}


@pytest.mark.parametrize("entrant", ["uwsgi"], indirect=True)
def test_a_server_without_a_hook_is_not_started(entrant: Entrant) -> None:
    assert trials.hook(entrant, SHORT) == Hook("", None)


@pytest.mark.slow
@pytest.mark.parametrize("entrant", ["api-hour"], indirect=True)
def test_the_clients_see_that_api_hour_takes_the_release_that_replaced_a_removed_one(
    entrant: Entrant,
) -> None:
    fact = trials.remove(entrant, SHORT)
    assert fact.reloaded.answered == fact.reloaded.asked > 0
    assert fact.reloaded.releases == [2]
    assert fact.killed.answered > 0
    assert sum(fact.losses.lost.values()) <= CLIENTS


@pytest.mark.parametrize("entrant", ["api-hour"], indirect=True)
def test_a_full_disk_under_the_logs_costs_api_hour_no_request(entrant: Entrant) -> None:
    fact = trials.fill(entrant, SHORT)
    assert fact.losses is not None
    assert fact.losses.lost == {}


@pytest.mark.parametrize("entrant", ["gunicorn"], indirect=True)
def test_a_server_that_does_not_start_on_a_full_disk_has_no_losses(entrant: Entrant) -> None:
    declaration = msgspec.structs.replace(entrant.declaration, logged=("false",))
    assert trials.fill(replace(entrant, declaration=declaration), SHORT) == Full(None)


@pytest.mark.parametrize("entrant", ["api-hour"], indirect=True)
def test_the_clients_wait_while_every_process_is_stopped_and_lose_nothing(entrant: Entrant) -> None:
    fact = trials.freeze(entrant, replace(SHORT, freezes=2, frozen=1.0, watch=2.0))
    assert (fact.ended, fact.losses.lost) == (0, {})
    assert fact.losses.longest > fact.seconds / 2  # who asked while they were stopped


@pytest.mark.parametrize(
    ("entrant", "starts", "signals"),
    [("api-hour", True, False), ("gunicorn", False, True)],
    indirect=["entrant"],
)
def test_a_pid_file_of_a_stranger_is_a_trap_for_gunicorn_only(
    entrant: Entrant, starts: bool, signals: bool
) -> None:
    assert trials.leave_pid_file(entrant, SHORT) == Stale(starts, signals)


def test_a_further_run_keeps_what_was_found_before_and_adds_its_date(tmp_path: Path) -> None:
    output, page = tmp_path / "results.json", tmp_path / "table.inc"
    known = Results.read(RESULTS)
    known.date = "2026-01-01"
    known.write(output)
    narrow = ["--keep", "--here", "--only", "gunicorn", "--trial", "stale"]
    assert main([*narrow, "--output", str(output), "--page", str(page)]) == 0
    results = Results.read(output)
    assert results.date.startswith("2026-01-01 and ")
    assert list(results.servers) == list(known.servers)
    assert results.servers["gunicorn"].reload == known.servers["gunicorn"].reload
    assert page.read_text() == render(results)


@pytest.mark.parametrize("entrant", ["gunicorn"], indirect=True)
def test_the_help_of_gunicorn_names_no_metrics_but_statsd(entrant: Entrant) -> None:
    assert features.options(entrant, features.EXPOSITION) == ["--statsd-host"]
    assert features.options(entrant, features.PROTOCOLS) == []


def test_the_table_on_the_page_is_made_from_the_results() -> None:
    assert PAGE.read_text() == render(Results.read(RESULTS))


def test_the_page_includes_the_table_and_has_no_figure_of_its_own() -> None:
    page = PAGE.with_name("comparison.rst").read_text()
    assert f".. include:: {PAGE.name}" in page
    assert re.findall(r"\d+ of \d+", page) == []


def test_every_server_was_tried_and_the_table_is_valid() -> None:
    results = Results.read(RESULTS)
    assert list(results.servers) == [entrant.name for entrant in discover(Path())]
    for facts in results.servers.values():
        assert facts.reason or (facts.raises and facts.raises.watched == WATCHED)
        assert facts.reason or NOT_RUN not in [cell(facts) for cell in ROWS.values()]
    strict = {"halt_level": 2, "report_level": 2, "file_insertion_enabled": False}
    html = docutils.core.publish_string(render(results), writer="html", settings_overrides=strict)
    assert html.count(b"<th") >= 1 + len(results.servers) + len(ROWS)


def test_a_server_that_cannot_be_installed_is_in_the_table_with_the_reason() -> None:
    results = Results.read(RESULTS)
    results.servers["gone"] = Facts("Gone", "", {}, {}, "HUP", "not installed: no compiler\nhere")
    text = render(results)
    assert text.count(f"     - {NOT_RUN}\n") == len(ROWS) - 1  # how it is reloaded is known
    assert text.endswith("Not run:\n\n* Gone: not installed: no compiler here\n")


def test_the_results_name_no_path_of_the_machine() -> None:
    assert re.findall(r"/(?:tmp|home|root|work|opt|usr)\b[^\"]*", RESULTS.read_text()) == []
