"""This project: the place for its decoders, which it does not compile from a checkpoint yet."""

from pathlib import Path

import numpy as np
from llm_models import Shape

import tapeout

from .base import Engine, Session


class _Session:
    def __init__(self, artifact: Path, threads: int, context: int) -> None:
        raise NotImplementedError(f"loading {artifact} with room for {context} tokens")

    def prefill(self, tokens: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def decode(self, token: int) -> np.ndarray:
        raise NotImplementedError


class _Tapeout:
    def __init__(self, format: str) -> None:
        self.format = format

    def version(self) -> str:
        return tapeout.__version__

    def prepare(self, shape: Shape) -> Path:
        raise NotImplementedError(f"compiling {shape.name} in {self.format}")

    def decode_bytes(self, prepared: Path) -> int:
        raise NotImplementedError(f"the weights of {prepared}")

    def load(self, prepared: Path, threads: int, context: int) -> Session:
        return _Session(prepared, threads, context)


def engine(format: str) -> Engine:
    """``f32``, or whatever ``--quantize`` takes."""
    return _Tapeout(format)
