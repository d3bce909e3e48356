"""What goes to a terminal: progress on standard error, tables on standard output."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console

WIDTH = 100
"""Columns of a table that goes into a pipe or a file, where there is no terminal to ask."""


@contextmanager
def progress() -> Generator[Callable[[str], None]]:
    """Give a function that says what is being done, on a terminal; elsewhere it says nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Console(stderr=True).status("starting") as status:
        # What is said may hold names from a model: never markup.
        yield lambda text: status.update(text.replace("[", r"\["))


def console(*, stderr: bool = False) -> Console:
    """Return a console for results: no markup, no colours by guess, wide enough in a pipe."""
    plain = Console(markup=False, highlight=False, stderr=stderr)
    if plain.is_terminal:
        return plain
    return Console(markup=False, highlight=False, stderr=stderr, width=WIDTH)


def scaled(value: float, unit: str) -> str:
    """Three digits and a unit with its prefix: ``2.87 Gflop``, ``91 MB``."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration in s, ms or µs, three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
