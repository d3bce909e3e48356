"""What ``transformers`` calls for attention while a model is exported: one operator of our own.

All that depends on a cache (which keys a token sees, where its own are written) is inside of it, so
the graph around it works token by token, on tokens of any sequences side by side.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from tapeout.frontend.llm.state_space import state_space

NAME = "tapeout"


@torch.library.custom_op("tapeout::attend", mutates_args=())
def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer: int,
    scale: float,
    softcap: float,
    window: int,
) -> torch.Tensor:
    """Causal attention of ``q [1, H, T, D]`` with what layer ``layer`` caches and its new keys.

    ``k [1, G, T, D]``, ``v [1, G, T, E]``; gives ``[1, T, H, E]``. ``softcap`` and ``window`` are 0
    where there is none. In torch itself nothing is cached: tokens are one sequence from its start.
    """
    share = q.shape[1] // k.shape[1]
    keys, values = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    scores = q @ keys.transpose(-1, -2) * scale
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    place = torch.arange(q.shape[2])
    behind = place[:, None] - place
    seen = behind >= 0
    if window:
        seen &= behind < window
    scores = scores.masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ values).transpose(1, 2).clone()


def _attend_shape(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layer: int,
    scale: float,
    softcap: float,
    window: int,
) -> torch.Tensor:
    return q.new_empty((q.shape[0], q.shape[2], q.shape[1], v.shape[3]))


_operator: Any = attend
_operator.register_fake(_attend_shape)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """``transformers``' interface of attention."""
    unknown = [n for n in ("s_aux", "head_mask", "position_bias") if others.get(n) is not None]
    if unknown or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"attention with {', '.join(unknown) or 'no causal mask'}")
    y = torch.ops.tapeout.attend(
        query,
        key,
        value,
        int(getattr(module, "layer_idx")),
        float(query.shape[-1] ** -0.5 if scaling is None else scaling),
        float(softcap or 0.0),
        int(sliding_window or 0),
    )
    return y, None


def no_mask(*_: Any, **__: Any) -> None:
    """``transformers``' interface of masks: which keys are seen, the operator says."""


@contextmanager
def hooked(model: Any) -> Generator[None]:
    """Have a model of ``transformers`` call our operators inside of the ``with``.

    E0402 for recurrent layers that have no support.
    """
    import transformers

    known: Any = transformers
    known.AttentionInterface.register(NAME, attention)
    known.AttentionMaskInterface.register(NAME, no_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    experts = getattr(model.config, "_experts_implementation", None)
    if experts is not None:
        # The pass ``recompose-experts`` knows it. The others are loops over experts that data
        # decides, or kernels of a GPU.
        model.set_experts_implementation("batched_mm")
    try:
        with state_space(model):
            yield
    finally:
        model.set_attn_implementation(before)
        if experts is not None:
            model.set_experts_implementation(experts)
