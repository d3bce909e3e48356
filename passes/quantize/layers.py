"""The layers of a model: products and convolutions with constant weights, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeGuard

import numpy as np
from xdsl.ir import Operation, SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layer:
    """One product; ``name`` is that of its weight in the model's file, or ``layerN``.

    Where several layers have parts of one weight, or read the same, ``#2`` and so on follow it.
    """

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

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Outputs and inputs of the weight as a matrix."""
        sizes = [int(d) for d in spec(self.weight).dims]
        if isinstance(self.op, ConvOp):
            return sizes[0], math.prod(sizes[1:])
        return (sizes[0], sizes[1]) if self.op.transpose_b.data else (sizes[1], sizes[0])

    @property
    def run(self) -> int:
        """Neighbours in memory that a product sums: of a convolution in groups, their channels."""
        if isinstance(self.op, ConvOp) and self.op.groups.data > 1:
            return int(spec(self.op.w).dims[1])
        return self.matrix_shape[1]

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
        return values if self.op.transpose_b.data else np.ascontiguousarray(values.T)

    @property
    def summed(self) -> int:
        """The axis of a matrix that the product sums over."""
        return 1 if isinstance(self.op, MatmulOp) and self.op.transpose_b.data else 0


def layers(module: Module) -> Iterator[Layer]:
    """Every product of f32 with a matrix, and every convolution with filters, that are fixed."""
    taken: set[str] = set()
    for found, op in enumerate(op for op in module.ir.walk() if _is_layer(op)):
        weight = op.b if isinstance(op, MatmulOp) else op.w
        assert isinstance(weight.owner, WeightOp), "a layer's weight is fixed"
        label = module.weights.label(weight.owner.symbol.data) or f"layer{found}"
        more = (f"{label}#{n}" for n in count(2))
        name = label if label not in taken else next(n for n in more if n not in taken)
        taken.add(name)
        yield Layer(name, op)


def _is_layer(op: Operation) -> TypeGuard[MatmulOp | ConvOp]:
    if not isinstance(op, MatmulOp | ConvOp):
        return False
    weight = op.b if isinstance(op, MatmulOp) else op.w
    if not isinstance(weight.owner, WeightOp) or spec(weight).dtype is not f32:
        return False
    return isinstance(op, ConvOp) or spec(weight).rank == 2
