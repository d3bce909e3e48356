"""llama.cpp by its Python package, which is compiled for the CPU at hand when it is installed."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# Only `make bench-llm` installs llama.cpp; linting does without.
# pyright: reportMissingImports=false

from pathlib import Path

import llama_cpp
import numpy as np
from llm_shapes import Shape

from .base import Engine, Session


class _Session:
    def __init__(self, file: Path, threads: int, context: int) -> None:
        self.model = llama_cpp.Llama(
            str(file),
            n_ctx=context,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def prefill(self, tokens: np.ndarray) -> np.ndarray:
        self.model.reset()
        return self._logits(tokens.tolist())

    def decode(self, token: int) -> np.ndarray:
        return self._logits([token])

    def _logits(self, tokens: list[int]) -> np.ndarray:
        self.model.eval(tokens)
        logits = llama_cpp.llama_get_logits(self.model.ctx)
        return np.ctypeslib.as_array(logits, (self.model.n_vocab(),)).copy()


class _LlamaCpp:
    def __init__(self, format: str) -> None:
        self.format = format

    def version(self) -> str:
        features = llama_cpp.llama_print_system_info().decode()
        return f"{llama_cpp.__version__} ({features.strip(' |')})"

    def prepare(self, shape: Shape) -> Path:
        from llm_models import gguf_file

        return gguf_file(shape, self.format)

    def decode_bytes(self, prepared: Path) -> int:
        import gguf

        tensors = gguf.GGUFReader(prepared).tensors
        return sum(int(t.n_bytes) for t in tensors if t.name != "token_embd.weight")

    def load(self, prepared: Path, threads: int, context: int) -> Session:
        return _Session(prepared, threads, context)


def engine(format: str) -> Engine:
    """``F32``, ``BF16``, ``Q8_0`` or ``Q4_0``, in all matrices."""
    return _LlamaCpp(format)
