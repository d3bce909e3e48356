"""What a language model keeps from run to run: inputs and states of a graph that says so.

Where layers call ``tapeout.attend``, a program has the inputs and states of :mod:`ir.decoding`.

Where layers call ``tapeout.recall`` (a causal convolution) or ``tapeout.scan``, it takes
``start [B]`` and ``stop [B]``, the tokens of each sequence, and has the states
``recall.I [B, K - 1, C]`` and ``scan.I [B, H, N, P]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from xdsl.ir import SSAValue

from tapeout.frontend.aten.element_types import element_type
from tapeout.ir.decoding import Layer, places, sequences
from tapeout.ir.dtypes import f32, i32
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.types import Spec

ATTEND, RECALL, SCAN = (f"tapeout.{name}.default" for name in ("attend", "recall", "scan"))


@dataclass(frozen=True)
class Recurrence:
    """A state of each sequence: what a convolution saw last, or what a scan sums up."""

    name: str
    sizes: tuple[int, ...]

    @property
    def spec(self) -> Spec:
        """Type of the state."""
        return Spec((sequences(), *map(as_expr, self.sizes)), f32)


@dataclass
class Cache:
    """The layers of a program, and while it is imported the values of inputs and states."""

    layers: tuple[Layer, ...]
    windows: tuple[int, ...] = ()
    recurrences: tuple[Recurrence, ...] = ()
    context: int | None = None
    values: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def inputs(self, tokens: Expr) -> list[tuple[str, Spec]]:
        """Names and types of what the program takes for its cache."""
        found = places(tokens, self.windows, self.context) if self.layers else []
        if self.recurrences:
            found += [(name, Spec((sequences(),), i32)) for name in ("start", "stop")]
        return found

    def states(self) -> list[tuple[str, Spec]]:
        """Names and types of its states."""
        paged = [each for layer in self.layers for each in layer.states]
        return [*paged, *((r.name, r.spec) for r in self.recurrences)]


def cache_of(graph: fx.Graph, context: int | None = None) -> Cache | None:
    """What the calls of a graph ask to be kept, of ``context`` tokens; None without any."""
    layers: list[Layer] = []
    windows: list[int] = []
    recurrences: list[Recurrence] = []
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if str(node.target) == ATTEND:
            k, v = (_shape(node.args[i]) for i in (1, 2))
            dtype = element_type(node.meta["val"].dtype)
            layers.append(Layer(int(node.args[3]), k[1], k[3], v[3], Spec((), dtype)))
            windows.append(int(node.args[6]))
        elif str(node.target) == RECALL:
            channels, taps = _shape(node.args[1])
            recurrences.append(Recurrence(f"recall.{node.args[2]}", (taps - 1, channels)))
        elif str(node.target) == SCAN:
            x, b = (_shape(node.args[i]) for i in (0, 2))
            recurrences.append(Recurrence(f"scan.{node.args[4]}", (x[2], b[3], x[3])))
    cache = Cache(tuple(layers), tuple(windows), tuple(recurrences), context)
    names = [name for name, _ in cache.states()]
    assert len(set(names)) == len(names), "each state has one owner"
    return cache if names else None


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor), "keys and values are tensors"
    shape: list[Any] = list(value.shape)
    return tuple(n if isinstance(n, int) else -1 for n in shape)
