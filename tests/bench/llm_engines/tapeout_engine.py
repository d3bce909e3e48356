"""This project: compiled ahead of time from a checkpoint, loaded by the runtime alone."""

from pathlib import Path

import numpy as np
from llm_shapes import Shape

import tapeout

from .base import Engine, Session

FILE = "model.tapeout"
EMBEDDING_BYTES = 4
"""Of a number in the table of embeddings, which is not quantised."""


class _Session:
    def __init__(self, file: Path, threads: int, context: int) -> None:
        self.program = tapeout.load(file, threads=threads, verify=False)
        self.session = self.program.decoding(batch=1, max_length=context)

    def prefill(self, tokens: np.ndarray) -> np.ndarray:
        self.session.reset()
        return self.session.prefill([tokens])[0]

    def decode(self, token: int) -> np.ndarray:
        return self.session.decode([token])[0]


class _Tapeout:
    def __init__(self, format: str) -> None:
        self.quantize = None if format == "f32" else format

    def version(self) -> str:
        return tapeout.__version__

    def prepare(self, shape: Shape) -> Path:
        from installs import made, sources
        from llm_models import checkpoint

        self.shape = shape
        model = checkpoint(shape, "f32")
        format = self.quantize or "f32"

        def fill(folder: Path) -> None:
            tapeout.compile(model, "cpu", output=folder / FILE, quantize=self.quantize)

        contents = [model.name, *sources()]
        return made(f"tapeout-{shape.name}-{format}", contents, fill) / FILE

    def decode_bytes(self, prepared: Path) -> int:
        with tapeout.load(prepared) as program:
            weights = program.manifest.files["weights.bin"].bytes
        return weights - EMBEDDING_BYTES * self.shape.vocab * self.shape.hidden

    def load(self, prepared: Path, threads: int, context: int) -> Session:
        return _Session(prepared, threads, context)


def engine(format: str) -> Engine:
    """``f32``, or whatever ``--quantize`` takes."""
    return _Tapeout(format)
