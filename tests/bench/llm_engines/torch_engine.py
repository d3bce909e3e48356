"""torch by way of transformers, as ``from_pretrained`` gives the model."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from llm_models import DTYPES, checkpoint
from llm_shapes import Shape
from safetensors import safe_open
from transformers import AutoModelForCausalLM, StaticCache

from .base import Engine, Session

transformers.utils.logging.disable_progress_bar()

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Session:
    def __init__(self, folder: Path, format: str, threads: int, context: int, wrap: Wrap) -> None:
        torch.set_num_threads(threads)
        dtype = getattr(torch, DTYPES[format])
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.forward = wrap(model.eval().forward)
        # Of one size, so that a compiled step is compiled once.
        self.cache = StaticCache(config=model.config, max_cache_len=context)

    @torch.inference_mode()
    def prefill(self, tokens: np.ndarray) -> np.ndarray:
        self.cache.reset()
        return self._logits(tokens)

    def decode(self, token: int) -> np.ndarray:
        return self._logits(np.array([token]))

    @torch.inference_mode()
    def _logits(self, tokens: np.ndarray) -> np.ndarray:
        ids = torch.from_numpy(tokens)[None]
        answer = self.forward(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return answer.logits[0, -1].float().numpy()


class Torch:
    """A checkpoint's model, whose forward pass goes through ``wrap``."""

    def __init__(self, format: str, wrap: Wrap) -> None:
        self.format = format
        self.wrap = wrap

    def version(self) -> str:
        capability = torch.backends.cpu.get_cpu_capability()
        return f"{torch.__version__} ({capability}), transformers {transformers.__version__}"

    def prepare(self, shape: Shape) -> Path:
        return checkpoint(shape, self.format)

    def decode_bytes(self, prepared: Path) -> int:
        with safe_open(prepared / "model.safetensors", "pt") as held:
            names = [name for name in held.keys() if "embed_tokens" not in name]
            return sum(held.get_tensor(name).nbytes for name in names)

    def load(self, prepared: Path, threads: int, context: int) -> Session:
        return _Session(prepared, self.format, threads, context, self.wrap)


def engine(format: str) -> Engine:
    """``f32`` or ``bf16``, for weights and arithmetic."""
    return Torch(format, lambda forward: forward)
