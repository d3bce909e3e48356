"""Measure several engines in turns, each in a process of its own that stands still meanwhile.

An engine's thread pool spins for a while after a call and would slow the next engine's turn: so a
worker is stopped (SIGSTOP) whenever it is not its turn.
"""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REST_SECONDS = 0.05


class EngineFailure(Exception):
    """An engine could not do what was asked; carries the worker's own traceback.

    ``refusal`` is what it said when it does not compile such a model or format.
    """

    def __init__(self, text: str, refusal: str | None = None) -> None:
        super().__init__(text)
        self.refusal = refusal


class Remote:
    """The near end of one ``worker.py``, or of another script that serves like it."""

    def __init__(self, engine: str, cpus: list[int], script: str = "worker.py") -> None:
        self.engine = engine
        command = [
            sys.executable,
            str(Path(__file__).with_name(script)),
            engine,
            ",".join(map(str, cpus)),
        ]
        # Every engine is told its number of threads; OpenMP's own must not add to it.
        environment = os.environ | {"OMP_NUM_THREADS": str(len(cpus))}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if os.environ.get("CI") else None,
            text=True,
            env=environment,
        )

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Let the worker run, do one thing, and stand still again; return its answer."""
        assert self.process.stdin is not None, "stdin is a pipe"
        assert self.process.stdout is not None, "stdout is a pipe"
        self.process.send_signal(signal.SIGCONT)
        print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise EngineFailure(f"{self.engine}: the worker ended with status {status} in '{do}'")
        self.process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailure(f"{self.engine}: {answer['error']}", answer["refusal"])
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.communicate()


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median over turns, how far turns lay apart, and the least CPU time."""

    median: float
    lowest: float
    highest: float
    turns: int
    cpu_lowest: float
    """Of all threads of the process together, while they spin too."""

    @staticmethod
    def of(turns: list[float], cpu_lowest: float) -> "Timing":
        median = statistics.median(turns)
        return Timing(median, min(turns), max(turns), len(turns), cpu_lowest)


def take_turns(
    remotes: Mapping[str, Remote], *, rounds: int, seconds: float, turn_seconds: float = 0.15
) -> dict[str, Timing]:
    """Let the engines measure in turns (A B C A B C ...) and return their timings.

    There are ``rounds`` rounds, or fewer (but three) when ``seconds`` are over. A turn is at
    least one timed call after one that is not.
    """
    taken: dict[str, list[float]] = {name: [] for name in remotes}
    cpu = dict.fromkeys(remotes, math.inf)
    end = time.monotonic() + seconds
    for done in range(rounds):
        if done >= 3 and time.monotonic() > end:
            break
        for name, remote in remotes.items():
            time.sleep(REST_SECONDS)
            answer: dict[str, list[float]] = remote.ask("measure", seconds=turn_seconds)
            taken[name].append(statistics.median(answer["samples"]))
            cpu[name] = min(cpu[name], *answer["cpu_samples"])
    return {name: Timing.of(turns, cpu[name]) for name, turns in taken.items()}
