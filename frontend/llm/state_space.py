"""What ``transformers`` calls for state-space layers while a model is exported.

A causal convolution and a scan are one operator each, with all that depends on earlier tokens
inside: the graph around them works token by token.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count, product
from typing import Any

import torch

from tapeout.ir.errors import CompileError

KINDS = (
    *("mamba2", "bamba", "falcon_h1", "granitemoehybrid", "nemotron_h"),
    *("lfm2", "lfm2_moe"),
)
"""Kinds of models whose recurrent layers call no other functions than these."""
CONVOLUTION, SCAN = "causal_conv1d_fn", "mamba2_chunk_scan"


def is_recurrent(model: Any) -> bool:
    """Whether layers of a model keep a state of each sequence."""
    return bool(getattr(model, "_is_stateful", False) or _functions(model))


def _functions(model: Any) -> list[Any]:
    """The modules with functions for recurrences that the model's layers call."""
    names = dict.fromkeys(type(part).__module__ for part in model.modules())
    return [each for each in map(sys.modules.get, names) if hasattr(each, CONVOLUTION)]


@torch.library.custom_op("tapeout::recall", mutates_args=())
def recall(x: torch.Tensor, weight: torch.Tensor, layer: int) -> torch.Tensor:
    """Causal convolution of each channel: ``x [1, C, T]``, ``weight [C, K]``; gives ``[1, C, T]``.

    In torch itself tokens are one sequence from its start.
    """
    taps = weight.shape[1]
    padded = torch.nn.functional.pad(x, (taps - 1, 0))
    return torch.nn.functional.conv1d(padded, weight[:, None], groups=x.shape[1])


@torch.library.custom_op("tapeout::scan", mutates_args=())
def scan(
    x: torch.Tensor, decay: torch.Tensor, inward: torch.Tensor, outward: torch.Tensor, layer: int
) -> torch.Tensor:
    """States of heads decay, take tokens in and are read: the scan of Mamba-2.

    ``x [1, T, H, P]``, ``decay [1, T, H]``, ``inward`` and ``outward`` ``[1, T, G, N]``; gives
    ``[1, T, H, P]``.
    """
    share = x.shape[2] // inward.shape[2]
    b, c = (v.repeat_interleave(share, 2) for v in (inward, outward))
    state = x.new_zeros((x.shape[0], x.shape[2], b.shape[3], x.shape[3]))
    found: list[torch.Tensor] = []
    for t in range(x.shape[1]):
        state = state * decay[:, t, :, None, None] + b[:, t, :, :, None] * x[:, t, :, None]
        found.append((c[:, t, :, :, None] * state).sum(2))
    return torch.stack(found, 1)


def _same_shape(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


for _each in (recall, scan):
    _any: Any = _each
    _any.register_fake(_same_shape)


def _convolution(layers: Callable[[], int]) -> Callable[..., torch.Tensor]:
    """``transformers``' interface of a causal convolution."""
    from transformers.activations import ACT2FN

    def convolution(
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        activation: str | None = None,
        **_: Any,
    ) -> torch.Tensor:
        y = torch.ops.tapeout.recall(hidden_states, weight, layers())
        y = y if bias is None else y + bias[:, None]
        known: Any = ACT2FN
        return y if activation is None else known[activation](y)

    return convolution


def _chunk_scan(layers: Callable[[], int]) -> Callable[..., torch.Tensor]:
    """``transformers``' interface of a scan."""

    def chunk_scan(
        hidden_states: torch.Tensor,
        dt: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        chunk_size: int,
        D: torch.Tensor | None = None,
        dt_bias: torch.Tensor | None = None,
        dt_softplus: bool = False,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        **_: Any,
    ) -> torch.Tensor:
        dt = dt if dt_bias is None else dt + dt_bias
        dt = torch.nn.functional.softplus(dt) if dt_softplus else dt
        dt = dt.clamp(*dt_limit)
        x = hidden_states * dt[..., None]
        y = torch.ops.tapeout.scan(x, torch.exp(dt * A), B, C, layers())
        return y if D is None else y + hidden_states * D[:, None]

    return chunk_scan


@contextmanager
def state_space(model: Any) -> Generator[None]:
    """Have a model's layers call :func:`recall` and :func:`scan` inside of the ``with``.

    Layers are numbered in the order of their calls. E0402 for layers with another recurrence.
    """
    kind: str = model.config.model_type
    if is_recurrent(model) and kind not in KINDS:
        raise CompileError(
            "E0402",
            "the recurrent layers of this model have no support",
            [("model", kind), ("known", ", ".join(KINDS))],
            "use a model whose layers attend, or have the state-space layers of Mamba-2",
        )
    convolutions, scans = count(), count()
    hooks = {
        CONVOLUTION: _convolution(lambda: next(convolutions)),
        SCAN: _chunk_scan(lambda: next(scans)),
    }
    both = product(_functions(model), hooks)
    before = [(each, name, getattr(each, name)) for each, name in both if hasattr(each, name)]
    try:
        for each, name, _ in before:
            setattr(each, name, hooks[name])
        yield
    finally:
        for each, name, own in before:
            setattr(each, name, own)
