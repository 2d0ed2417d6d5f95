"""Simple tables and headings of reStructuredText, which are readable as they are."""

from collections.abc import Sequence

NONE = ""  # where there is no figure


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with text in the first column and figures in the others."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    return "\n".join([rule, _line(head, widths), rule, *(_line(row, widths) for row in rows), rule])


def heading(text: str) -> str:
    """Return a heading."""
    return f"{text}\n{'-' * len(text)}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *figures = zip(cells, widths, strict=True)
    words = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in figures)]
    return "  ".join(words).rstrip()
