"""Products with codes of few bits that are looked up: the sums are those of the dots."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import DTYPES
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.passes.tile.looked_up import COLUMNS, LookUpLayout, PackBits

LANES = (4, 8, 16)
Graph = Callable[..., Any]
Lowers = Callable[..., list[str]]


@pytest.fixture
def looked_up_bits() -> int:
    """Machines that look up codes of any number of bits."""
    return 8


def product(
    g: Any, n: int, bits: int, group: int, *, zeros: bool = False, scale: str = "f16", **attrs: int
) -> Any:
    """The product of the inputs of ``inputs`` with drawn codes; one column has the greatest."""
    k = int(g["a"].type.data.dims[-1])
    drawn = g.random.integers(0, 1 << bits, (n, k))
    drawn[-1] = (1 << bits) - 1
    codes = g.fixed(drawn, "u8")
    scales = g.fixed(g.random.random((n, k // group)).astype(DTYPES[scale].numpy), scale)
    zero = g.fixed(g.random.integers(0, 256, (n, k // group)), "u8") if zeros else None
    given = (g["a"], g["s"], g["sums"], codes, scales, zero)
    return g.op(GroupedMatmulOp, *given, group=group, bits=bits, **attrs)


def inputs(rows: str, k: int, group: int) -> dict[str, str]:
    count = k // group
    return {"a": f"i8 {rows}, {k}", "s": f"f32 {rows}, {count}", "sums": f"i32 {rows}, {count}"}


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("group", "k"), [(32, 64), (4, 8), (36, 72), (292, 292)])
@pytest.mark.parametrize("zeros", [False, True])
def test_every_number_of_bits(
    graph: Graph, lowers: Lowers, bits: int, group: int, k: int, zeros: bool
) -> None:
    g = graph(**inputs("2", k, group))
    y = product(g, 21, bits, group, zeros=zeros, point=(1 << bits) // 2)
    (title,) = lowers(g.returning(y), tolerance=1e-6)
    assert title.endswith("looked up")


@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("columns", [1, 64, 70])
def test_ragged_rows_and_columns(graph: Graph, lowers: Lowers, rows: int, columns: int) -> None:
    g = graph(**inputs(str(rows), 16, 8))
    lowers(g.returning(product(g, columns, 2, 8, point=2)), tolerance=1e-6)


def test_many_rows_are_multiplied(graph: Graph, lowers: Lowers) -> None:
    g = graph(**inputs("5", 16, 8))
    (title,) = lowers(g.returning(product(g, 21, 2, 8, point=2)), tolerance=1e-6)
    assert not title.endswith("looked up")


def test_signs_are_codes_of_one_bit_in_steps_of_two(graph: Graph, lowers: Lowers) -> None:
    g = graph(**inputs("2", 64, 32))
    lowers(g.returning(product(g, 20, 1, 32, step=2, point=1)), tolerance=1e-6)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("group", [4, 12, 32, 100, 4096])
def test_packed_bits_are_those_of_the_codes(bits: int, group: int) -> None:
    lay = LookUpLayout(bits, group)
    codes = np.random.default_rng(3).integers(0, 1 << bits, (COLUMNS, group)).astype(np.uint8)
    (packed,) = PackBits(lay)(codes)
    assert packed.shape == (1, lay.blocks, bits, lay.steps // 2, COLUMNS)
    found = np.zeros((COLUMNS, lay.blocks * lay.steps * 4), np.uint8)
    for bit in range(bits):
        steps = np.moveaxis(packed[0][:, bit], -1, 0).reshape(COLUMNS, -1)
        found |= np.unpackbits(steps, axis=1, bitorder="little") << bit
    np.testing.assert_array_equal(found[:, :group], codes)
    assert not found[:, group:].any()
