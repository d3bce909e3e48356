"""Products with packed weights of few bits: integers are exact, at every width and raggedness."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import DTYPES
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.passes.tile.grouped import Layout, PackCodes

Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]

SIZES = [{"B": 1, "S": 1}, {"B": 2, "S": 5}]


def product(
    g: Any, n: int, bits: int, group: int, *, zeros: bool = False, scale: str = "f32",
    shared: bool = False, **attrs: int,
) -> Any:  # fmt: skip
    """The product of the inputs of ``inputs`` with drawn codes."""
    k = int(g["a"].type.data.dims[-1])
    count = 1 if shared else k // group
    codes = g.fixed(g.random.integers(0, 1 << bits, (n, k)), "u8")
    scales = g.fixed(g.random.random((n, count)).astype(DTYPES[scale].numpy), scale)
    zero = g.fixed(g.random.integers(0, 256, (n, count)), "u8") if zeros else None
    given = (g["a"], g["s"], g["sums"], codes, scales, zero)
    return g.op(GroupedMatmulOp, *given, group=group, bits=bits, **attrs)


def inputs(rows: str, k: int, group: int, *, by_row: bool = False) -> dict[str, str]:
    count = k // group
    scales = 1 if by_row else count
    return {"a": f"i8 {rows}, {k}", "s": f"f32 {rows}, {scales}", "sums": f"i32 {rows}, {count}"}


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("group", "k"), [(32, 64), (4, 8), (36, 72), (72, 72)])
def test_every_number_of_bits(graph: Graph, lowers: Lowers, bits: int, group: int, k: int) -> None:
    g = graph(**inputs("3", k, group))
    lowers(g.returning(product(g, 21, bits, group, point=(1 << bits) // 2)), tolerance=1e-6)


@pytest.mark.parametrize("rows", [1, 6, 29])
@pytest.mark.parametrize("columns", [1, 64, 70])
def test_ragged_rows_and_columns(graph: Graph, lowers: Lowers, rows: int, columns: int) -> None:
    g = graph(**inputs(str(rows), 16, 8))
    lowers(g.returning(product(g, columns, 4, 8, point=8)), tolerance=1e-6)


@pytest.mark.parametrize("scale", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("by_row", [False, True])
def test_scales_and_zero_points_with_an_epilogue(
    graph: Graph, lowers: Lowers, scale: str, zeros: bool, shared: bool, by_row: bool
) -> None:
    g = graph(**inputs("B, S", 16, 8, by_row=by_row), r="f32 B, S, 21")
    y = product(g, 21, 4, 8, zeros=zeros, scale=scale, shared=shared)
    y = g.map("add", g.map("gelu", g.map("add", y, g.weight(21))), g["r"])
    titles = lowers(g.returning(y), *SIZES)
    assert len(titles) == 1
    assert "of 4 bits in groups of 8" in titles[0]


def test_a_leading_axis_of_one_joins_unknown_rows(graph: Graph, lowers: Lowers) -> None:
    g = graph(**inputs("1, S", 16, 8), r="f32 1, S, 21")
    y = g.map("add", product(g, 21, 4, 8), g["r"])
    titles = lowers(g.returning(y), *SIZES)
    assert "of 4 bits in groups of 8" in titles[0]


def test_signs_are_codes_of_one_bit_in_steps_of_two(graph: Graph, lowers: Lowers) -> None:
    g = graph(**inputs("2", 64, 32))
    lowers(g.returning(product(g, 20, 1, 32, step=2, point=1)), tolerance=1e-6)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("group", [4, 12, 32, 100])
def test_packed_codes_take_their_bits(bits: int, group: int) -> None:
    lay = Layout(bits, group)
    packed = PackCodes(lay)(np.zeros((64, group * 2), np.uint8))
    assert packed.nbytes * 8 == 64 * 2 * lay.blocks * lay.block * 4 * bits
    assert lay.blocks * lay.block - lay.steps < lay.block
