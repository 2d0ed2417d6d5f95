"""A bar chart as SVG: one bar per contender, between its title and its figure."""

from collections.abc import Sequence
from xml.etree import ElementTree

WIDTH, LABELS, FIGURES = 860, 270, 60  # pixels: the chart, left of the bars, right of them
BAR, STEP, TOP = 18, 26, 44  # pixels: height of a bar, distance of bars, above the first
COLOURS = {"API-Hour": "#1f77b4", "framework": "#9aa5b1", "bare": "#d0a75c", "floor": "#7fb08a"}
INK, PAPER = "#222222", "#ffffff"


def draw(title: str, bars: Sequence[tuple[str, str, float]]) -> str:
    """Return a chart of (title, kind, figure), in which the longest bar has the full width."""
    height = TOP + STEP * len(bars) + STEP // 2
    size = {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"}
    font = {"font-family": "sans-serif", "font-size": "13", "fill": INK}
    svg = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **font})
    ElementTree.SubElement(svg, "title").text = title
    ElementTree.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": PAPER})
    _text(svg, 12, 24, title, {"font-size": "15", "font-weight": "bold"})
    longest = max(figure for _, _, figure in bars)
    for number, (label, kind, figure) in enumerate(bars):
        _bar(svg, TOP + STEP * number, label, kind, figure, longest)
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _bar(
    svg: ElementTree.Element, top: int, label: str, kind: str, figure: float, longest: float
) -> None:
    width = (WIDTH - LABELS - FIGURES) * figure / longest
    ours = label.startswith("API-Hour")
    shape = {"x": str(LABELS), "y": str(top), "width": f"{width:.1f}", "height": str(BAR)}
    fill = COLOURS["API-Hour" if ours else kind]
    ElementTree.SubElement(svg, "rect", {**shape, "fill": fill})
    weight = {"font-weight": "bold"} if ours else {}
    _text(svg, LABELS - 8, top + 14, label, {"text-anchor": "end", **weight})
    _text(svg, LABELS + width + 6, top + 14, f"{figure:.1f}", weight)


def _text(
    svg: ElementTree.Element, x: float, y: float, text: str, attributes: dict[str, str]
) -> None:
    position = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    ElementTree.SubElement(svg, "text", {**position, **attributes}).text = text
