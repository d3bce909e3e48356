"""The options that the benchmark scripts share."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from engines import NAMES
from zoo_models import SIX


@dataclass(frozen=True)
class Options:
    """What to measure, against whom, for how long, and where to write it."""

    models: tuple[str, ...]
    threads: tuple[int, ...]
    engines: tuple[str, ...]
    rounds: int
    seconds: float
    json: Path | None


def parse(arguments: list[str], summary: str, models: tuple[str, ...] = SIX) -> Options:
    """Read the command line; ours is measured first unless ``--peers-only`` leaves it out."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--models", type=_names, default=models, help="comma-separated names")
    parser.add_argument("--threads", type=_numbers, default=(1, 2), help="comma-separated counts")
    parser.add_argument("--against", type=_names, default=NAMES[1:], help="engines to compare")
    parser.add_argument("--peers-only", action="store_true", help="leave this project out")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each engine")
    parser.add_argument("--seconds", type=float, default=20, help="cap per model and thread count")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    given = parser.parse_args(arguments)
    if unknown := set(given.against) - set(NAMES[1:]):
        parser.error(f"no engine {', '.join(sorted(unknown))}; known: {', '.join(NAMES[1:])}")
    engines = given.against if given.peers_only else (NAMES[0], *given.against)
    return Options(given.models, given.threads, engines, given.rounds, given.seconds, given.json)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _names(text)))
