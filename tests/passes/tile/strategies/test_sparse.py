"""Products with block-sparse matrices, with what is fused to them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.ops.sparse import BlockSparseMatmulOp
from tapeout.passes.sparsify.encode import encode_blocks

LANES = (4, 8, 16)
Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]

SIZES = [{"B": 1, "S": 1}, {"B": 2, "S": 7}, {"B": 1, "S": 81}]


def weights(g: Any, outputs: int, inputs: int, dtype: str, kept: float = 0.3) -> Any:
    """A matrix of which a part of the 4x1 blocks is not zero; the last stripe has none."""
    made = g.random.integers(-127, 128, (outputs, inputs))
    blocks = g.random.random((-(-outputs // 4), inputs)) < kept
    blocks[-1] = False
    return (made * np.repeat(blocks, 4, axis=0)[:outputs]).astype(dtype)


def sparse(g: Any, x: SSAValue, matrix: Any, dtype: str, group: int = 1) -> SSAValue:
    made = encode_blocks(matrix, group=group)
    encoded = [
        g.builder.insert(g.module.weight(array)).results[0]
        for array in (made.starts, made.columns, made.values)
    ]
    outputs = len(matrix)
    return g.op(BlockSparseMatmulOp, x, *encoded, outputs=outputs, group=group)


# The last has more columns than places of 16 bits reach in the widest lines.
@pytest.mark.parametrize(("outputs", "inputs"), [(4, 3), (21, 33), (64, 16), (9, 8201)])
@pytest.mark.parametrize("x", ["u8", "i8"])
def test_sparse_products_of_bytes_are_exact(
    graph: Graph, lowers: Lowers, outputs: int, inputs: int, x: str
) -> None:
    g = graph(x=f"{x} B, S, {inputs}")
    matrix = weights(g, outputs, inputs, "int8")
    y = g.convert(sparse(g, g["x"], matrix, "i8", group=4), f32)
    titles = lowers(g.returning(g.map("mul", y, g.weight(outputs))), *SIZES, tolerance=0)
    assert len(titles) == 1
    assert titles[0].startswith("sparse product")


@pytest.mark.parametrize(("outputs", "inputs"), [(4, 3), (21, 33)])
def test_a_sparse_product_of_floats_with_its_epilogue(
    graph: Graph, lowers: Lowers, outputs: int, inputs: int
) -> None:
    g = graph(x=f"f32 B, S, {inputs}", r=f"f32 B, S, {outputs}")
    y = sparse(g, g["x"], weights(g, outputs, inputs, "float32"), "f32")
    y = g.map("gelu", g.map("add", y, g.weight(outputs)))
    titles = lowers(g.returning(g.map("add", y, g["r"])), *SIZES)
    assert len(titles) == 1


def test_blocks_that_are_not_whole_dots_are_taken_one_by_one(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="u8 S, 12")
    lowers(g.returning(sparse(g, g["x"], weights(g, 9, 12, "int8"), "i8")), {"S": 5}, tolerance=0)


def test_a_matrix_of_zeros(graph: Graph, lowers: Lowers) -> None:
    g = graph(x="f32 S, 6")
    y = sparse(g, g["x"], np.zeros((5, 6), np.float32), "f32")
    lowers(g.returning(g.map("add", y, g.weight(5))), {"S": 3})
