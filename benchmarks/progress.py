"""How far a run is: a bar on a terminal, a line a step elsewhere; always on stderr."""

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
    """Yield each step, while ``label(step)`` says what is done and how much is left.

    The bar is drawn between two steps only: a thread that draws it would disturb the measuring.
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
