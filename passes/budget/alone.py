"""One layer alone in a format: how far its output is from that in f32, on inputs from samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.experts import ExpertMatmulOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.passes.calibrate.observe import Watch
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.layers import Layer
from tapeout.passes.quantize.quantize_layers import QuantizeLayers
from tapeout.passes.quantize.recipe import Recipe

Array = np.ndarray[Any, Any]

SAMPLES = 16
"""Samples that are run for the inputs of layers."""
ROWS = 32
"""Rows of a product's input that one sample gives, evenly spaced."""
MOST_ELEMENTS = 1 << 20
"""What is kept of one input: further samples of a convolution add nothing beyond."""


@dataclass
class Kept:
    """Some of the values of one layer's input: rows for a product, whole images for filters."""

    rows: bool
    parts: list[Array] = field(default_factory=list[Array])
    elements: int = 0

    def add(self, array: Array) -> None:
        """Take in the value of one sample, unless there is enough, or it has another shape."""
        if self.rows:
            flat = array.reshape(-1, array.shape[-1])
            array = flat[:: max(1, -(-len(flat) // ROWS))]
        fits = not self.parts or array.shape[1:] == self.parts[0].shape[1:]
        if fits and array.size and (self.elements + array.size <= MOST_ELEMENTS or not self.parts):
            self.parts.append(array.copy())
            self.elements += array.size

    def array(self) -> Array:
        """All of it, along the first axis."""
        return np.concatenate(self.parts)


def inputs_of(
    module: Module, found: Sequence[Layer], samples: Iterable[Mapping[str, Array]]
) -> Mapping[SSAValue, Array]:
    """Some of what enters each layer, from the first samples; nothing for layers that never ran."""
    kept = {layer.input: Kept(not isinstance(layer.op, ConvOp)) for layer in found}
    watch = Watch(module, next(module.entries()), kept)
    for sample in islice(samples, SAMPLES):
        watch.sample(sample)
    return {value: each.array() for value, each in kept.items() if each.parts}


@dataclass(frozen=True)
class Alone:
    """A layer, what enters it (``x``), and what leaves it in f32 without its bias (``want``)."""

    layer: Layer
    module: Module
    x: Array
    want: Array

    @classmethod
    def of(cls, layer: Layer, module: Module, x: Array) -> Alone:
        """The layer on these inputs."""
        return cls(layer, module, x, _output(_alone(layer, module, x), x))

    def noise(self, format: LayerFormat) -> float:
        """The power of the error that the format makes in the output, over that of the output.

        The pass itself makes the quantised layer, whatever formats it knows. Errors: E0701, E0702
        and E0704 of that pass.
        """
        quantised = _alone(self.layer, self.module, self.x)
        QuantizeLayers(Recipe(format), [{"x": self.x}]).apply(quantised)
        error = float(np.sum((_output(quantised, self.x) - self.want) ** 2))
        signal = float(np.sum(self.want**2))
        if not math.isfinite(error):
            return math.inf
        return error / signal if signal else math.inf if error else 0.0


def _output(alone: Module, x: Array) -> Array:
    return evaluate(alone, {"x": x})["y"].astype(np.float64)


def _alone(layer: Layer, module: Module, x: Array) -> Module:
    """A module of this layer, without its bias, for inputs of the shape of ``x``."""
    entry = EntryOp("main", [("x", Spec(tuple(map(as_expr, x.shape)), f32))], ["y"])
    made, weight = Module(ModuleOp([entry])), module.value_of(layer.weight)
    assert weight is not None, "a layer's weight is fixed"
    (argument,), of = entry.body.block.args, made.weight(weight, layer.name)
    experts: list[WeightOp] = []
    if isinstance(layer.op, ExpertMatmulOp):
        # Which row went to which expert is not kept: they take them in turn.
        experts = [made.weight(np.arange(len(x)) % len(weight))]
    bias = (None,) if isinstance(layer.op, ConvOp) else ()
    op = type(layer.op).make(argument, of.y, *bias, *(e.y for e in experts), **layer.op.attrs())
    entry.body.block.add_ops([of, *experts, op, ReturnOp([op.y])])
    return made
