"""What an adapter of a language model gives to the harness."""

from pathlib import Path
from typing import Protocol

import numpy as np
from llm_shapes import Shape


class Session(Protocol):
    """A loaded model with one sequence of tokens, which has room for ``context`` of them."""

    def prefill(self, tokens: np.ndarray) -> np.ndarray:
        """Begin the sequence anew with ``[T]`` tokens; return ``[V]`` f32 logits of the last."""
        ...

    def decode(self, token: int) -> np.ndarray:
        """Append one token; return its ``[V]`` f32 logits."""
        ...


class Engine(Protocol):
    """An engine in one format: the file that it loads, what it reads of it, and how it loads."""

    def version(self) -> str:
        """Return the version of what is measured, and for which CPU it was built if it says so."""
        ...

    def prepare(self, shape: Shape) -> Path:
        """Make what ``load`` takes, unless that was done before."""
        ...

    def decode_bytes(self, prepared: Path) -> int:
        """Return the bytes of weights that one token reads: all but the embeddings of others."""
        ...

    def load(self, prepared: Path, threads: int, context: int) -> Session:
        """Return a session that computes with ``threads`` threads."""
        ...
