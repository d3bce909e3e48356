"""The key-value cache of a program whose graph calls ``tapeout.attend``: inputs and states for it.

Beside its own inputs such a program takes, for ``T`` tokens of ``B`` sequences: ``slots [T]``
(where keys and values are written), ``sequence [T]``, ``end [T]`` (how many slots of its sequence
a token sees), ``table [B, L]`` (pages of each sequence); with trees of tokens ``tree [T]``. Each
layer has two states: ``keys.I [P, G, D, N]`` and ``values.I [P, G, N, E]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from xdsl.ir import SSAValue

from tapeout.frontend.aten.element_types import element_type
from tapeout.ir.dtypes import i32, i64
from tapeout.ir.expr import Expr, as_expr, symbol
from tapeout.ir.types import Spec

PAGE = 64
"""Slots of a page."""
SEQUENCES, PAGES = 4096, 1 << 20
ATTEND = "tapeout.attend.default"


@dataclass(frozen=True)
class Layer:
    """What one layer caches: ``groups`` key heads of size ``depth``, values of ``depth_v``."""

    number: int
    groups: int
    depth: int
    depth_v: int
    spec: Spec

    @property
    def names(self) -> tuple[str, str]:
        """Names of its states."""
        return f"keys.{self.number}", f"values.{self.number}"

    @property
    def specs(self) -> tuple[Spec, Spec]:
        """Types of its states."""
        pages, sizes = symbol("P", 1, PAGES), (self.groups, self.depth, self.depth_v)
        groups, depth, depth_v = map(as_expr, sizes)
        lines = as_expr(PAGE)
        return (
            self.spec.with_dims((pages, groups, depth, lines)),
            self.spec.with_dims((pages, groups, lines, depth_v)),
        )


@dataclass
class Cache:
    """The layers of a program, and while it is imported the values of inputs and states."""

    layers: tuple[Layer, ...]
    tree: bool = False
    values: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def inputs(self, tokens: Expr) -> list[tuple[str, Spec]]:
        """Names and types of what the program takes for its cache."""
        row = (tokens,)
        table = (symbol("B", 1, SEQUENCES), symbol("L", 1, PAGES))
        found = [("slots", Spec(row, i64)), ("sequence", Spec(row, i32)), ("end", Spec(row, i32))]
        found.append(("table", Spec(table, i32)))
        return [*found, ("tree", Spec(row, i64))] if self.tree else found

    def states(self) -> list[tuple[str, Spec]]:
        """Names and types of its states."""
        return [
            (n, s) for layer in self.layers for n, s in zip(layer.names, layer.specs, strict=True)
        ]


def cache_of(graph: fx.Graph, tree: bool = False) -> Cache | None:
    """The cache that a graph's calls of ``tapeout.attend`` ask for; None without any."""
    layers: list[Layer] = []
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target) == ATTEND:
            k, v = (_shape(node.args[i]) for i in (1, 2))
            dtype = element_type(node.meta["val"].dtype)
            layers.append(Layer(int(node.args[3]), k[1], k[3], v[3], Spec((), dtype)))
    numbers = [layer.number for layer in layers]
    assert len(set(numbers)) == len(numbers), "a layer attends once"
    return Cache(tuple(layers), tree) if layers else None


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor), "keys and values are tensors"
    shape: list[Any] = list(value.shape)
    return tuple(n if isinstance(n, int) else -1 for n in shape)
