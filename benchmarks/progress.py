"""Progress on stderr: a bar on a terminal, otherwise one line per step."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TEXT = "{task.description}"
T = TypeVar("T")
console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False, soft_wrap=True)


def track(steps: Sequence[T], label: Callable[[T], str]) -> Iterator[T]:
    """Yield each step, and show ``label(step)`` with the time that is left.

    The bar is drawn only between two steps: a thread that draws it would disturb the measurement.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn(TEXT))
    with Progress(*columns, console=console, auto_refresh=False) as bar:
        task = bar.add_task("", total=len(steps))
        for step in steps:
            bar.update(task, description=label(step), refresh=True)
            if not console.is_terminal:
                say(label(step))
            yield step
            bar.advance(task)
        bar.update(task, description="", refresh=True)
