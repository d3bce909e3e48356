"""The layers of a model: products and convolutions with constant weights, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layer:
    """One product; ``name`` is that of its weight in the model's file, or ``layerN``."""

    name: str
    op: MatmulOp | ConvOp

    @property
    def input(self) -> SSAValue:
        """The activation that enters."""
        return self.op.a if isinstance(self.op, MatmulOp) else self.op.x

    @property
    def weight(self) -> SSAValue:
        """The weight, as the operator takes it."""
        return self.op.b if isinstance(self.op, MatmulOp) else self.op.w

    def as_matrix(self, weight: Array) -> Array:
        """The weight as ``[outputs, inputs]``."""
        if isinstance(self.op, ConvOp):
            return weight.reshape(weight.shape[0], -1)
        return weight if self.op.transpose_b.data else weight.T

    def as_weight(self, matrix: Array) -> Array:
        """``[outputs, inputs]`` as the operator takes it."""
        if isinstance(self.op, ConvOp):
            return matrix.reshape([int(d) for d in spec(self.op.w).dims])
        return np.ascontiguousarray(matrix if self.op.transpose_b.data else matrix.T)

    def per_output(self, values: Array) -> Array:
        """``[outputs, groups]`` so that it broadcasts with the weight, or with its groups."""
        if isinstance(self.op, ConvOp):
            return values.reshape(-1, *[1] * (spec(self.op.w).rank - 1))
        if self.op.transpose_b.data:
            return values
        return np.ascontiguousarray(values.T) if values.shape[1] > 1 else values.reshape(-1)

    @property
    def summed(self) -> int:
        """The axis of a matrix that the product sums over."""
        return 1 if isinstance(self.op, MatmulOp) and self.op.transpose_b.data else 0


def layers(module: Module) -> Iterator[Layer]:
    """Every product of f32 with a matrix, and every convolution with filters, that are fixed."""
    taken: set[str] = set()
    found = 0
    for op in module.ir.walk():
        if not isinstance(op, MatmulOp | ConvOp):
            continue
        weight = op.b if isinstance(op, MatmulOp) else op.w
        owner = weight.owner
        if not isinstance(owner, WeightOp) or spec(weight).dtype is not f32:
            continue
        if isinstance(op, MatmulOp) and spec(weight).rank != 2:
            continue
        label = module.weights.label(owner.symbol.data)
        name = label if label and label not in taken else f"layer{found}"
        taken.add(name)
        found += 1
        yield Layer(name, op)
