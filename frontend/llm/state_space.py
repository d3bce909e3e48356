"""What ``transformers`` calls for state-space layers while a model is exported.

A causal convolution and a scan are one operator each, with all that depends on earlier tokens
inside: the graph around them works token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import Any

import torch

STATE_SPACE = {"mamba2": "transformers.models.mamba2.modeling_mamba2"}
"""Kinds of models, and the modules whose functions their layers call."""


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

    Layers are numbered in the order of their calls.
    """
    module = import_module(STATE_SPACE[model.config.model_type])
    convolutions, scans = count(), count()
    hooks = {
        "causal_conv1d_fn": _convolution(lambda: next(convolutions)),
        "mamba2_chunk_scan": _chunk_scan(lambda: next(scans)),
    }
    before = {name: getattr(module, name) for name in hooks}
    try:
        for name, hook in hooks.items():
            setattr(module, name, hook)
        yield
    finally:
        for name, own in before.items():
            setattr(module, name, own)
