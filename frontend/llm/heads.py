"""Heads that guess the tokens behind the next one, as Medusa trains them beside a model.

Head ``i`` is ``H_i = W(b_n(...b_1(h)))`` of the hidden state ``h``, with blocks
``b(x) = x + silu(Linear(x))`` and a product ``W`` to the vocabulary.
Source: Cai et al. 2024, arXiv:2401.10774.
"""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from tapeout.ir.errors import CompileError

NAME = re.compile(r"(?:medusa_head\.)?(\d+)\.(\d+)\.(?:linear\.)?(weight|bias)")
"""``HEAD.PLACE.linear.weight`` of a block, ``HEAD.PLACE.weight`` of the product behind them."""


class Heads(torch.nn.Module):
    """``hidden [R, D]`` to ``[R, M, V]``: logits of the tokens 2, 3, ... places ahead."""

    def __init__(self, heads: list[list[tuple[torch.Tensor, torch.Tensor | None]]]) -> None:
        super().__init__()
        self.sizes = [len(layers) for layers in heads]
        for i, layers in enumerate(heads):
            for j, (weight, bias) in enumerate(layers):
                self.register_buffer(f"weight_{i}_{j}", weight)
                self.register_buffer(f"bias_{i}_{j}", bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """All heads."""
        found: list[torch.Tensor] = []
        for i, size in enumerate(self.sizes):
            x = hidden
            for j in range(size):
                weight, bias = getattr(self, f"weight_{i}_{j}"), getattr(self, f"bias_{i}_{j}")
                y = functional.linear(x, weight, bias)
                x = y if j == size - 1 else x + functional.silu(y)
            found.append(x)
        return torch.stack(found, 1)


def heads_of(path: Path, model: Any) -> Heads:
    """The heads in a safetensors file, in the model's type; E0301 for another file.

    Their sizes have to be the model's: blocks ``[D, D]``, products ``[V, D]``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CompileError("E0301", "the file of heads does not exist", [("file", path)])
    try:
        tensors: Mapping[str, torch.Tensor] = load_file(path)
    except SafetensorError as error:
        raise CompileError(
            "E0301",
            "the file of heads is no safetensors file",
            [("file", path), ("safetensors", str(error)[:200])],
            "save the heads' state dict with safetensors.torch.save_file",
        ) from error
    last = model.get_output_embeddings().weight
    found: dict[int, dict[int, dict[str, torch.Tensor]]] = {}
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise _unlike(path, name, tuple(tensor.shape))
        head, place, kind = match.groups()
        layers = found.setdefault(int(head), {})
        layers.setdefault(int(place), {})[kind] = tensor.to(last.dtype)
    vocabulary, hidden = last.shape
    heads: list[list[tuple[torch.Tensor, torch.Tensor | None]]] = []
    for head in sorted(found):
        layers = [found[head][place] for place in sorted(found[head])]
        for place, layer in enumerate(layers):
            want = (vocabulary if place == len(layers) - 1 else hidden, hidden)
            have = tuple(layer["weight"].shape) if "weight" in layer else ()
            if have != want:
                raise _unlike(path, f"{head}.{place}.weight", have, want)
        heads.append([(layer["weight"], layer.get("bias")) for layer in layers])
    if not heads:
        raise _unlike(path, "none", ())
    return Heads(heads)


def _unlike(path: Path, name: str, have: tuple[int, ...], want: object = None) -> CompileError:
    facts: list[tuple[str, object]] = [("file", path), ("tensor", name), ("shape", have)]
    facts += [] if want is None else [("wanted", want)]
    return CompileError(
        "E0301",
        "the file holds no Medusa heads for this model",
        facts,
        "name tensors HEAD.BLOCK.linear.weight, .linear.bias and HEAD.LAST.weight",
    )
