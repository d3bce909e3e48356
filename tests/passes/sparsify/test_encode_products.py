"""Zeros are left out where a target gains by it; what is computed stays the same."""

from collections.abc import Callable
from typing import Any

import pytest
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i8
from tapeout.passes.pipeline import SPARSIFY
from tapeout.passes.sparsify.encode_products import Choice, EncodeProducts

Graph = Callable[..., Any]
Check = Callable[..., Any]
SIZES = [{"B": 1, "S": 3}, {"B": 2, "S": 1}]


def matrix(g: Any, outputs: int, inputs: int, zeros: float, dtype: str) -> Any:
    """A matrix of which a part of the 4x1 blocks is zero, the same in every stripe."""
    made = g.random.integers(1, 127, (outputs, inputs)).astype(dtype)
    made[:, : round(zeros * inputs)] = 0
    return made


def product(g: Any, zeros: float, transpose_b: bool = False) -> SSAValue:
    w = matrix(g, 24, 40, zeros, "float32")
    stored = g.builder.insert(g.module.weight(w if transpose_b else w.T, "up")).results[0]
    return g.matmul(g["x"], stored, transpose_b=transpose_b)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_sparse_matrix_of_floats_is_encoded(
    graph: Graph, check: Check, transpose_b: bool
) -> None:
    g, told = graph(x="f32 B, S, 40"), list[Choice]()
    module = g.returning(g.map("relu", product(g, 0.75, transpose_b)))
    counts = check(module, [EncodeProducts(0.3, 0.3, choices=told)], *SIZES)
    assert counts == {"block_sparse_matmul": 1, "relu": 1}
    (choice,) = told
    assert (choice.layer, choice.dtype, choice.outputs, choice.inputs) == ("up", f32, 24, 40)
    assert choice.encoded
    assert choice.ratio == pytest.approx(0.7 / 0.25)
    assert choice.dense_bytes == 24 * 40 * 4
    assert choice.sparse_bytes == (6 + 1) * 4 + 60 * 4 + 60 * 16


def test_bytes_are_filled_up_to_whole_dots(graph: Graph, check: Check) -> None:
    g, told = graph(x="u8 S, 30"), list[Choice]()
    stored = g.builder.insert(g.module.weight(matrix(g, 10, 30, 0.7, "int8").T)).results[0]
    module = g.returning(g.convert(g.matmul(g["x"], stored), f32))
    counts = check(module, [EncodeProducts(0.5, 1.0, choices=told)], {"S": 5}, rtol=0, atol=0)
    assert counts == {"block_sparse_matmul": 1, "convert": 1}
    (choice,) = told
    assert choice.dtype is i8
    assert choice.ratio == pytest.approx(0.5 / (12 / 30)), "9 columns are 3 dots of 4"


@pytest.mark.parametrize(
    ("zeros", "options", "why"),
    [
        (0.2, {"break_even_f32": 0.25}, "20% of its 4x1 blocks are zero; f32 products gain from"),
        (0.9, {}, "f32 products gain from none on this target"),
        (0.5, {"break_even_f32": 0.25, "rows": 16}, "in blocks of 16 rows"),
    ],
)
def test_a_matrix_stays_dense_where_that_is_faster(
    graph: Graph, check: Check, zeros: float, options: dict[str, Any], why: str
) -> None:
    g, told = graph(x="f32 1, 3, 40"), list[Choice]()
    counts = check(g.returning(product(g, zeros)), [EncodeProducts(**options, choices=told)], {})
    assert counts == {"matmul": 1}
    (choice,) = told
    assert not choice.encoded
    assert choice.ratio <= 1
    assert why in choice.why


def test_a_matrix_without_zero_blocks_is_not_told_of(graph: Graph, check: Check) -> None:
    g, told = graph(x="f32 B, S, 40"), list[Choice]()
    check(g.returning(product(g, 0.0)), [EncodeProducts(0.0, 0.0, choices=told)], *SIZES)
    assert told == []


def test_a_matrix_that_two_products_share_is_encoded_for_both(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, S, 24", y="f32 B, S, 24")
    w = g.builder.insert(g.module.weight(matrix(g, 12, 24, 0.5, "float32").T)).results[0]
    both = g.map("add", g.matmul(g["x"], w), g.matmul(g["y"], w))
    counts = check(g.returning(both), [EncodeProducts(0.1, 0.1), *SPARSIFY[1:]], *SIZES)
    assert counts == {"block_sparse_matmul": 2, "add": 1}


def test_nothing_is_known_of_no_target(graph: Graph, check: Check) -> None:
    g = graph(x="f32 B, S, 40")
    assert check(g.returning(product(g, 0.99)), SPARSIFY, *SIZES) == {"matmul": 1}


def test_activations_are_never_encoded(graph: Graph, check: Check) -> None:
    g = graph(x="f32 S, 8", y="f32 8, 8")
    counts = check(g.returning(g.matmul(g["x"], g["y"])), [EncodeProducts(0.0, 0.0)], {"S": 2})
    assert counts == {"matmul": 1}
