"""The text and the charts show the figures of the results."""

from pathlib import Path
from xml.etree import ElementTree

import docutils.core
import pytest

from benchmarks.figures import Instructions
from benchmarks.report.__main__ import main, report
from benchmarks.report.table import table
from benchmarks.results import Results
from benchmarks.tests.test_results import some

SVG = {"svg": "http://www.w3.org/2000/svg"}


def run() -> Results:
    """Return a run with three contenders, one of them left out."""
    results = some("api-hour", "aiohttp", "flask", "shapes-api-hour", "shapes-aiohttp", "gone")
    results.entrants[0] = results.entrants[0].__class__(
        "api-hour", "API-Hour", "framework", "api_hour", ["{bin}/api_hour"], {"aiohttp": "3"}, {}
    )
    results.instructions[0] = Instructions(
        *("api-hour", "index", 1000, 5_000_000, 99_000_000),
        {"bytecode": 70_000_000, "uvloop": 23_960_000, "rare": 40_000},
    )
    results.instructions[1] = Instructions("aiohttp", "index", 1000, 5_000_000, 349_000_000)
    for name, each in (("shapes-api-hour", 250), ("shapes-aiohttp", 500)):
        figure = Instructions(name, "await", 1000, 0, 2 * 1000 * each)
        results.instructions.append(figure)
    results.leave_out("gone", "Gone", "it does not listen on its port:\n  no such module")
    return results


def test_the_text_is_valid_and_has_every_section() -> None:
    text = report(run(), "run")["run.inc"]
    strict = {"halt_level": 2, "report_level": 2, "file_insertion_enabled": False}
    html = docutils.core.publish_string(text, writer="html", settings_overrides=strict).decode()
    for title in ("Instructions", "Instructions by", "Beyond", "CPU", "Memory", "Idle", "Left out"):
        assert f"\n{title}" in text
    assert html.count("<table") == 6


def test_the_text_has_the_figures_and_the_ratios() -> None:
    lines = report(run(), "run")["run.inc"].splitlines()
    words = [line.split() for line in lines]
    assert ["API-Hour", "47.0", "(0.27)"] in words
    assert ["AIOHTTP", "172.0", "(1.00)"] in words
    parts = [["bytecode", "35.0"], ["uvloop", "12.0"], ["all", "47.0"]]
    assert [row for row in words if row in parts] == parts
    assert ["rare"] not in words
    (awaiting,) = (line.split() for line in lines if line.startswith("a handler that awaits"))
    assert awaiting[-3:] == ["0.2", "0.5", "0.50"]
    flask = next(line.split() for line in lines if line.startswith("FLASK  ") and "4000" in line)
    assert flask == ["FLASK", "100.0", "250.0", "4000", "1.0", "252.0", "0"]
    assert "* Gone: it does not listen on its port: no such module" in lines


def test_the_contenders_without_the_parser_in_c_are_named() -> None:
    results = run()
    assert "Flask uses Gunicorn's parser in Python here" in report(results, "run")["run.inc"]
    results.leave_out("flask", "Flask", "gone")
    assert "parser" not in report(results, "run")["run.inc"]


def test_a_chart_has_bars_in_proportion_the_smallest_first() -> None:
    charts = report(run(), "run")
    assert sorted(charts) == ["cpu-64.svg", "instructions.svg", "run.inc"]
    svg = ElementTree.fromstring(charts["instructions.svg"])  # noqa: S314
    texts = [element.text for element in svg.iterfind("svg:text", SVG)]
    assert texts[:3] == ["JSON: thousands of user-space instructions per request", "FLASK", "0.1"]
    bars = [float(bar.get("width", "")) for bar in svg.iterfind("svg:rect[@x]", SVG)]
    assert bars == sorted(bars)
    assert bars[-2] / bars[-1] == pytest.approx(47 / 172, rel=0.01)


def test_the_command_writes_beside_the_results(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    run().write(file)
    main([str(file)])
    assert {path.name for path in tmp_path.iterdir()} == {file.name, *report(run(), "results")}


def test_a_table_is_as_wide_as_its_widest_cells() -> None:
    assert table(["Name", "n"], [["a", "1"], ["longer", "200"]]).splitlines() == [
        "======  ===",
        "Name      n",
        "======  ===",
        "a         1",
        "longer  200",
        "======  ===",
    ]
