"""No shape of a request costs many plain ones, or the page says what bounds it."""

import docutils.core
import pytest

from benchmarks.costs.measure import Figure, measure
from benchmarks.costs.shapes import TIMES, shapes
from benchmarks.costs.table import PAGE, RESULTS, Costs, render
from benchmarks.tests.conftest import needs_valgrind

# Those that were expensive, or would be without a check of ours.
MEASURED = (
    "a path of many segments",
    "Forwarded: an open quote",
    "gzip to an unknown path",
    "gzip, no JSON",
    "br, streamed",
    "JSON: one key again and again",
)
COSTS = Costs.read(RESULTS)


@needs_valgrind
@pytest.mark.slow
def test_shapes_that_were_expensive_are_not() -> None:
    chosen = [shape for shape in shapes() if shape.title in MEASURED]
    figures = list(measure(chosen))
    assert {figure.title for figure in figures} == set(MEASURED)
    assert not [figure for figure in figures if figure.times > TIMES]


def test_every_shape_was_measured() -> None:
    assert [figure.title for figure in COSTS.figures] == [shape.title for shape in shapes()]
    for figure, shape in zip(COSTS.figures, shapes(), strict=True):
        assert figure.size == shape.sent


@pytest.mark.parametrize("figure", COSTS.figures, ids=lambda figure: figure.title)
def test_what_costs_many_plain_requests_says_what_bounds_it(figure: Figure) -> None:
    bound = next(shape.bound for shape in shapes() if shape.title == figure.title)
    assert figure.times <= TIMES or bound
    assert figure.status[0] != "5"


def test_the_table_on_the_page_is_made_from_the_results() -> None:
    assert PAGE.read_text() == render(COSTS)
    assert f".. include:: {PAGE.name}" in PAGE.with_name("request-costs.rst").read_text()
    html = docutils.core.publish_string(
        render(COSTS), writer="html", settings_overrides={"halt_level": 2}
    )
    assert html.count(b"<tr") == 1 + len(COSTS.figures)
