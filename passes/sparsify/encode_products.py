"""Weights that are mostly zero leave their zeros out, where the target gains by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeout.ir.dtypes import DType, f32
from tapeout.ir.expr import product
from tapeout.ir.module import Module
from tapeout.ir.numeric import is_byte
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.sparse import BlockSparseMatmulOp
from tapeout.ir.types import spec
from tapeout.passes.manager import Pass
from tapeout.passes.rewrite import Edit
from tapeout.passes.sparsify.detect import Zeros, detect
from tapeout.passes.sparsify.encode import BlockEncoded, encode_blocks

Array = np.ndarray[Any, Any]

DOT = 4
"""Blocks of bytes that one dot takes: stripes are filled up to whole dots."""


@dataclass(frozen=True)
class Choice:
    """What became of one constant matrix with zero blocks, and why.

    ``ratio``: the time of the dense product over that of the sparse one, modelled; 0 where nothing
    is known of the target. ``dense_bytes`` and ``sparse_bytes``: what either way stores.
    """

    layer: str
    dtype: DType
    outputs: int
    inputs: int
    zeros: Zeros
    dense_bytes: int
    sparse_bytes: int
    ratio: float
    encoded: bool
    why: str


@dataclass(frozen=True)
class EncodeProducts(Pass):
    """Store the 4x1 blocks of a constant matrix that are not zero, and multiply by these alone.

    Saves their part of the bytes and of the arithmetic, without loss: what is left out is zero.
    ``break_even_i8`` and ``break_even_f32`` are the parts of zero blocks from which on the sparse
    product of a target is faster than its dense one; 1 where it never is, or nothing is known.
    ``rows``: how many rows it takes at once; fewer cost as much. ``choices`` is told of every
    matrix that has zero blocks.
    """

    name = "encode-products"
    break_even_i8: float = 1.0
    break_even_f32: float = 1.0
    rows: int = 1
    choices: list[Choice] | None = field(default=None, compare=False)

    def apply(self, module: Module) -> None:
        """Encode where it pays."""
        edit = Edit(module)
        for op, layer, matrix in list(_products(module)):
            zeros = detect(matrix)
            if not zeros.blocks:
                continue
            made = encode_blocks(matrix, group=DOT if is_byte(spec(op.b).dtype) else 1)
            choice = self.choice(op, layer, zeros, made)
            if self.choices is not None:
                self.choices.append(choice)
            if choice.encoded:
                edit.at(op)
                _replace(op, made, layer, edit)

    def choice(self, op: MatmulOp, layer: str, zeros: Zeros, made: BlockEncoded) -> Choice:
        """Whether to encode, by the time that the target takes for blocks that are not zero."""
        dtype, (outputs, inputs) = spec(op.b).dtype, made.shape
        break_even = self.break_even_i8 if is_byte(dtype) else self.break_even_f32
        left = len(made.columns) / max((len(made.starts) - 1) * inputs, 1)
        ratio = (1 - break_even) * self.filled(op) / max(left, 1e-9)
        pays = ratio > 1
        why = f"{zeros.blocks:.0%} of its 4x1 blocks are zero; {dtype} products gain from "
        why += f"{break_even:.0%} on" if break_even < 1 else "none on this target"
        if self.filled(op) < 1:
            why += f", in blocks of {self.rows} rows"
        size = outputs * inputs * dtype.bytes
        return Choice(layer, dtype, outputs, inputs, zeros, size, made.bytes, ratio, pays, why)

    def filled(self, op: MatmulOp) -> float:
        """The part of the rows that a product takes at once which are there; 1 if not known."""
        count = product(spec(op.a).dims[:-1]).constant
        if not count:
            return 1.0
        return count / (-(-count // self.rows) * self.rows)


def _products(module: Module) -> Iterator[tuple[MatmulOp, str, Array]]:
    """Every product with a constant matrix of f32 or bytes: its name, and ``[N, K]``."""
    for number, op in enumerate(op for op in module.ir.walk() if isinstance(op, MatmulOp)):
        b, weight = spec(op.b), op.b.owner
        known = b.dtype is f32 or is_byte(b.dtype)
        if b.rank != 2 or not known or not isinstance(weight, WeightOp):
            continue
        matrix = module.weights[weight.symbol.data]
        layer = module.weights.label(weight.symbol.data) or f"layer{number}"
        yield op, layer, matrix if op.transpose_b.data else matrix.T


def _replace(op: MatmulOp, made: BlockEncoded, layer: str, edit: Edit) -> None:
    """``a @ w`` by the blocks of ``w``."""
    encoded = [
        edit.weight(array, f"{layer}, {part}")
        for part, array in (
            ("starts", made.starts),
            ("columns", made.columns),
            ("values", made.values),
        )
    ]
    y = edit.add(BlockSparseMatmulOp, op.a, *encoded, outputs=made.shape[0], group=made.group)
    op.y.replace_all_uses_with(y)
    op.detach()
    op.erase()
