"""What an adapter gives to the harness."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Session(Protocol):
    """A loaded model with a fixed number of threads."""

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run once; return every output by its ONNX name."""
        ...

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """Return a call without arguments on buffers bound once: the engine's fastest way in."""
        ...

    def working_bytes(self) -> int | None:
        """Return the bytes of working memory held beside the weights, if the engine tells."""
        ...


class Engine(Protocol):
    """An engine: what it makes of a model ahead of time, and how it loads that."""

    def version(self) -> str:
        """Return the version of the package that is measured."""
        ...

    def prepare(
        self,
        model: Path,
        dims: Mapping[str, tuple[int, int]],
        output: Path,
        calibration: Path | None,
    ) -> Path:
        """Do what is done once, ahead of time; return what ``load`` takes.

        ``calibration`` is a folder of sample inputs, for formats that need some.
        """
        ...

    def load(self, prepared: Path, threads: int) -> Session:
        """Return a session that computes with ``threads`` threads."""
        ...
