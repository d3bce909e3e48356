"""The layers of a model: products and convolutions with constant weights, by name.

The matrices of experts are one matrix here, one below the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from xdsl.ir import Operation, SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.experts import ExpertMatmulOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.types import spec

Array = np.ndarray[Any, Any]
Op: TypeAlias = MatmulOp | ExpertMatmulOp | ConvOp


@dataclass(frozen=True)
class Layer:
    """One product; ``name`` is that of its weight in the model's file, or ``layerN``.

    Where several layers have parts of one weight, or read the same, ``#2`` and so on follow it.
    """

    name: str
    op: Op

    @property
    def input(self) -> SSAValue:
        """The activation that enters."""
        return self.op.x if isinstance(self.op, ConvOp) else self.op.a

    @property
    def weight(self) -> SSAValue:
        """The weight, as the operator takes it."""
        return self.op.w if isinstance(self.op, ConvOp) else self.op.b

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Outputs and inputs of the weight as a matrix."""
        sizes = [int(d) for d in spec(self.weight).dims]
        if isinstance(self.op, ConvOp):
            return sizes[0], math.prod(sizes[1:])
        *experts, n, k = sizes if self.op.transpose_b.data else (*sizes[:-2], *sizes[:-3:-1])
        return math.prod(experts) * n, k

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
        turned = weight if self.op.transpose_b.data else weight.swapaxes(-1, -2)
        return turned.reshape(self.matrix_shape)

    def as_weight(self, matrix: Array) -> Array:
        """``[outputs, inputs]`` as the operator takes it."""
        if isinstance(self.op, ConvOp):
            return matrix.reshape([int(d) for d in spec(self.op.w).dims])
        return self._by_expert(matrix)

    def per_output(self, values: Array) -> Array:
        """``[outputs, groups]`` so that it broadcasts with the weight, or with its groups."""
        if isinstance(self.op, ConvOp):
            return values.reshape(-1, *[1] * (spec(self.op.w).rank - 1))
        return self._by_expert(values)

    def _by_expert(self, values: Array) -> Array:
        """``[outputs, *]`` as the operator takes a matrix, or that of each expert."""
        assert not isinstance(self.op, ConvOp), "filters are no matrices"
        experts = [int(d) for d in spec(self.op.b).dims[:-2]]
        of = values.reshape(*experts, -1, values.shape[-1]) if experts else values
        return np.ascontiguousarray(of if self.op.transpose_b.data else of.swapaxes(-1, -2))

    @property
    def summed(self) -> int:
        """The axis of its weight that a product sums over."""
        if isinstance(self.op, ConvOp):
            return 0
        return spec(self.op.b).rank - (1 if self.op.transpose_b.data else 2)


def layers(module: Module) -> Iterator[Layer]:
    """Every product of f32 with fixed matrices, and every convolution with fixed filters."""
    taken: set[str] = set()
    for found, op in enumerate(op for op in module.ir.walk() if _is_layer(op)):
        weight = op.w if isinstance(op, ConvOp) else op.b
        assert isinstance(weight.owner, WeightOp), "a layer's weight is fixed"
        label = module.weights.label(weight.owner.symbol.data) or f"layer{found}"
        more = (f"{label}#{n}" for n in count(2))
        name = label if label not in taken else next(n for n in more if n not in taken)
        taken.add(name)
        yield Layer(name, op)


def _is_layer(op: Operation) -> TypeGuard[Op]:
    if not isinstance(op, Op):
        return False
    weight = op.w if isinstance(op, ConvOp) else op.b
    if not isinstance(weight.owner, WeightOp) or spec(weight).dtype is not f32:
        return False
    return not isinstance(op, MatmulOp) or spec(weight).rank == 2
