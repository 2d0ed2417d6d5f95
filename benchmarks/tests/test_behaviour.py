"""The comparison page shows the results of a run, and the trials observe what happens."""

import re
from dataclasses import replace
from pathlib import Path

import docutils.core
import pytest

from benchmarks.behaviour import offers, trials
from benchmarks.behaviour.declaration import HERE, Entrant, discover
from benchmarks.behaviour.facts import Facts, Results
from benchmarks.behaviour.table import NOT_RUN, PAGE, ROWS, render
from benchmarks.behaviour.trials import Form

RESULTS = HERE / "results.json"
SHORT = Form(reloads=1, calm=60, watch=1.0, bound=30.0)
CLIENTS = 20
WATCHED = 10  # seconds, as the rows say


@pytest.fixture
def entrant(request: pytest.FixtureRequest, tmp_path: Path) -> Entrant:
    """Return the server of that name that is installed beside this Python."""
    (found,) = discover(tmp_path, [request.param], here=True)
    return found


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
    fact = trials.broken(entrant, replace(SHORT, watch=10.0))  # it needs about one
    assert fact.answered == 0 < fact.asked
    assert fact.losses.lost["refused"] > 0


@pytest.mark.parametrize("entrant", ["gunicorn", "api-hour"], indirect=True)
def test_the_clients_lose_the_in_flight_requests_of_a_killed_worker_and_see_its_successor(
    entrant: Entrant,
) -> None:
    fact = trials.crash(entrant, SHORT)
    assert fact.runs
    assert fact.replaced is not None
    assert sum(fact.losses.lost.values()) <= CLIENTS


@pytest.mark.parametrize("entrant", ["gunicorn"], indirect=True)
def test_the_help_of_gunicorn_names_no_metrics_but_statsd(entrant: Entrant) -> None:
    assert offers.options(entrant, offers.EXPOSITION) == ["--statsd-host"]
    assert offers.options(entrant, offers.PROTOCOLS) == []


def test_the_table_on_the_page_is_rendered_from_the_results() -> None:
    assert PAGE.read_text() == render(Results.read(RESULTS))


def test_the_page_includes_the_table_and_has_no_other_figure() -> None:
    page = PAGE.with_name("comparison.rst").read_text()
    assert f".. include:: {PAGE.name}" in page
    assert re.findall(r"\d+ of \d+", page) == []


def test_every_server_was_tried_and_the_table_is_valid() -> None:
    results = Results.read(RESULTS)
    assert list(results.servers) == [one.name for one in discover(Path())]
    for one in results.servers.values():
        assert one.reason or (one.raises and one.raises.watched == WATCHED)
        assert one.reason or NOT_RUN not in [cell(one) for cell in ROWS.values()]
    strict = {"halt_level": 2, "report_level": 2, "file_insertion_enabled": False}
    html = docutils.core.publish_string(render(results), writer="html", settings_overrides=strict)
    assert html.count(b"<th") >= 1 + len(results.servers) + len(ROWS)


def test_a_server_that_cannot_be_installed_is_in_the_table_with_the_reason() -> None:
    results = Results.read(RESULTS)
    results.servers["gone"] = Facts("Gone", "", {}, {}, "HUP", "not installed: no compiler\nhere")
    text = render(results)
    assert text.count(f"     - {NOT_RUN}\n") == len(ROWS) - 1  # how it is reloaded is known
    assert text.endswith("Not run:\n\n* Gone: not installed: no compiler here\n")


def test_the_results_name_no_path_of_their_machine() -> None:
    assert re.findall(r"/(?:tmp|home|root|work|opt|usr)\b[^\"]*", RESULTS.read_text()) == []
