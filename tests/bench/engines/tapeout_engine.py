"""This project: compiled ahead of time, loaded by the runtime alone."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np

import tapeout

from .base import Arrays, Engine, Session


class _Session:
    def __init__(self, artifact: Path, threads: int) -> None:
        self.program = tapeout.load(artifact, threads=threads)

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return self.program.run(inputs)

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        return self.program.bind(inputs)

    def working_bytes(self) -> int | None:
        return self.program.memory_bytes


class _Tapeout:
    def __init__(self, format: str) -> None:
        self.quantize = None if format == "f32" else format

    def version(self) -> str:
        return tapeout.__version__

    def prepare(
        self,
        model: Path,
        dims: Mapping[str, tuple[int, int]],
        output: Path,
        calibration: Path | None,
    ) -> Path:
        artifact = output.with_suffix(".tapeout")
        # Its time is that of a first compilation: no object is kept from one before.
        with TemporaryDirectory() as cache, patch.dict(os.environ, TAPEOUT_CACHE=cache):
            tapeout.compile(
                model,
                target="cpu",
                dims=dict(dims),
                output=artifact,
                quantize=self.quantize,
                calibrate=calibration if self.quantize else None,
            )
        return artifact

    def load(self, prepared: Path, threads: int) -> Session:
        return _Session(prepared, threads)


def engine(format: str) -> Engine:
    """``f32``, or whatever ``--quantize`` takes."""
    return _Tapeout(format)
