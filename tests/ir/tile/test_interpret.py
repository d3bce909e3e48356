"""The interpreter gives tile programs their meaning, and refuses what touches no memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f32, i32, i64, u8
from tapeout.ir.expr import as_expr, symbol
from tapeout.ir.tile import interpret
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import ProgramOp, index_operand, lane

Begin = Callable[..., TileBuilder]
Arrays = Callable[[ProgramOp, int], list[np.ndarray[Any, Any]]]

TEN = as_expr(10)
X = np.arange(10, dtype=np.float32)


def test_a_load_outside_its_buffer_is_caught(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [12]})
    b.store(b.load(b.inputs[0], [lane(1, 12)], (1, 12)), b.outputs[0], [lane(1, 12)])
    with pytest.raises(AssertionError, match=r"tile\.load index _lane1 = \[10\] outside \[0, 10\)"):
        interpret.run(b.program, [X], {})


def test_a_negative_place_is_not_wrapped_around(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [4]})
    b.store(b.load(b.inputs[0], [lane(1, 4) - 1], (1, 4)), b.outputs[0], [lane(1, 4)])
    with pytest.raises(AssertionError, match="outside"):
        interpret.run(b.program, [X], {})


def test_a_store_outside_its_buffer_is_caught(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [3]})
    b.store(b.load(b.inputs[0], [lane(1, 4)], (1, 4)), b.outputs[0], [lane(1, 4)])
    with pytest.raises(AssertionError, match=r"tile\.store"):
        interpret.run(b.program, [X], {})


def test_masked_lanes_are_filled_and_not_stored(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [16], "y1": [10]})
    column = lane(1, 16)
    x = b.load(b.inputs[0], [column], (1, 16), [(column, TEN)], 7.0)
    b.store(x, b.outputs[0], [column])
    b.store(x, b.outputs[1], [column], [(column, TEN)])
    filled, cut = interpret.run(b.program, [X], {})
    np.testing.assert_array_equal(filled, [*X, *[7.0] * 6])
    np.testing.assert_array_equal(cut, X)


def test_what_nobody_stores_is_not_zero(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [3]})
    b.store(b.load(b.inputs[0], [1], (1, 1)), b.outputs[0], [1])
    assert list(interpret.run(b.program, [X], {})[0]) == [-77, 1, -77]


def test_carried_tiles_are_handed_on_together(begin: Begin) -> None:
    """Two tiles that change places every turn."""
    b = begin({"x0": [10]}, {"y0": [2]})
    first, second = (b.load(b.inputs[0], [i], (1, 1)) for i in (3, 5))
    with b.loop("k", 0, symbol("N"), 1, [first, second]) as k:
        k.next = [k.carried[1], k.carried[0]]
    for i, tile in enumerate(k.results):
        b.store(tile, b.outputs[0], [i])
    assert list(interpret.run(b.program, [X], {"N": 4})[0]) == [3, 5]
    assert list(interpret.run(b.program, [X], {"N": 5})[0]) == [5, 3]
    assert list(interpret.run(b.program, [X], {"N": 0})[0]) == [3, 5]


def test_an_index_operand_is_read_at_each_lane(begin: Begin) -> None:
    b = begin({"x0": [10], "x1": [4]}, {"y0": [4], "y1": [4]}, {"x1": i64})
    where = b.load(b.inputs[1], [lane(1, 4)], (1, 4))
    x = b.load(b.inputs[0], [index_operand(0) * 2], (1, 4), indices=[where])
    b.store(x, b.outputs[0], [lane(1, 4)])
    b.store(x, b.outputs[1], [index_operand(0)], indices=[where])
    places = np.array([3, 0, 2, 1])
    gathered, scattered = interpret.run(b.program, [X, places], {})
    np.testing.assert_array_equal(gathered, X[2 * places])
    np.testing.assert_array_equal(scattered[places], gathered)


def test_data_may_bound_a_loop(begin: Begin) -> None:
    b = begin({"x0": [1]}, {"y0": [1]}, {"x0": i64, "y0": i64})
    n = b.load(b.inputs[0], [0], (1, 1))
    with b.loop("k", 0, index_operand(0), 1, [n], indices=[n]) as k:
        k.next = [b.map("add", k.carried[0], b.index(k.iv, (1, 1)))]
    b.store(k.results[0], b.outputs[0], [0])
    assert interpret.run(b.program, [np.array([5])], {})[0] == 5 + 0 + 1 + 2 + 3 + 4


def test_a_dot_adds_the_product(begin: Begin) -> None:
    b = begin({"x0": [3, 2], "x1": [2, 4]}, {"y0": [3, 4]})
    x = b.load(b.inputs[0], [lane(0, 3), lane(1, 2)], (3, 2))
    w = b.load(b.inputs[1], [lane(0, 2), lane(1, 4)], (2, 4))
    total = b.dot(x, w, b.full(1, (3, 4), f32))
    b.store(total, b.outputs[0], [lane(0, 3), lane(1, 4)])
    a, c = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(interpret.run(b.program, [a, c], {})[0], 1 + a @ c)


def test_a_transposed_tile_has_its_rows_as_columns(begin: Begin) -> None:
    b = begin({"x0": [2, 5]}, {"y0": [5, 2]})
    x = b.load(b.inputs[0], [lane(0, 2), lane(1, 5)], (2, 5))
    b.store(b.transpose(x), b.outputs[0], [lane(0, 5), lane(1, 2)])
    (turned,) = interpret.run(b.program, [X.reshape(2, 5)], {})
    np.testing.assert_array_equal(turned, X.reshape(2, 5).T)


def test_lines_that_are_interleaved_are_dealt_out_in_fours(begin: Begin) -> None:
    b = begin({"x0": [4, 32]}, {"y0": [4, 32]}, {"x0": u8, "y0": u8})
    lines = [b.load(b.inputs[0], [r, lane(1, 32)], (1, 32)) for r in range(4)]
    b.store(b.interleave(lines), b.outputs[0], [lane(0, 4), lane(1, 32)])
    x = np.arange(128, dtype=np.uint8).reshape(4, 32)
    (dealt,) = interpret.run(b.program, [x], {})
    fours = [0, 4, 1, 5, 2, 6, 3, 7]
    np.testing.assert_array_equal(dealt.reshape(4, 8, 4), x.reshape(4, 8, 4)[:, fours])


def test_a_field_is_cut_out_and_moved(begin: Begin) -> None:
    b = begin({"x0": [1, 4]}, {"y0": [1, 4]}, {"x0": u8, "y0": u8})
    x = b.load(b.inputs[0], [0, lane(1, 4)], (1, 4))
    b.store(b.field(x, low=2, bits=3, to=1), b.outputs[0], [0, lane(1, 4)])
    given = np.array([[0b11111111, 0b00010100, 0b11100011, 0]], np.uint8)
    (y,) = interpret.run(b.program, [given], {})
    np.testing.assert_array_equal(y, [[0b1110, 0b1010, 0, 0]])


def test_a_reduction_keeps_its_axis(begin: Begin) -> None:
    b = begin({"x0": [2, 5]}, {"y0": [1, 5], "y1": [2, 1]})
    x = b.load(b.inputs[0], [lane(0, 2), lane(1, 5)], (2, 5))
    b.store(b.reduce("max", x, 0), b.outputs[0], [0, lane(1, 5)])
    b.store(b.reduce("sum", x, 1), b.outputs[1], [lane(0, 2), 0])
    highest, total = interpret.run(b.program, [X.reshape(2, 5)], {})
    np.testing.assert_array_equal(highest, X.reshape(2, 5).max(0, keepdims=True))
    np.testing.assert_array_equal(total, X.reshape(2, 5).sum(1, keepdims=True))


def test_conversions_saturate_where_asked(begin: Begin) -> None:
    b = begin({"x0": [1]}, {"y0": [1]}, {"y0": i32})
    x = b.load(b.inputs[0], [0], (1, 1))
    b.store(b.convert(x, i32, saturate=True), b.outputs[0], [0])
    assert interpret.run(b.program, [np.array([1e20], np.float32)], {})[0] == 2**31 - 1


def test_running_backwards_gives_the_same(program: ProgramOp, arrays: Arrays) -> None:
    for n in (1, 4, 7):
        given = arrays(program, n)
        there = interpret.run(program, given, {"N": n})
        back = interpret.run(program, given, {"N": n}, backwards=True)
        for a, b in zip(there, back, strict=True):
            np.testing.assert_array_equal(a, b)


def test_running_backwards_shows_iterations_that_are_not_independent(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [1]})
    with b.parallel("i", 10) as i:
        b.store(b.load(b.inputs[0], [i.iv], (1, 1)), b.outputs[0], [0])
    assert interpret.run(b.program, [X], {})[0] == 9
    assert interpret.run(b.program, [X], {}, backwards=True)[0] == 0


def test_an_input_of_another_shape_is_told(begin: Begin) -> None:
    b = begin({"x0": [10]}, {"y0": [1]})
    with pytest.raises(AssertionError, match=r"k0: \(9,\) given for \(10,\)"):
        interpret.run(b.program, [X[1:]], {})


def tables_of(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Tables ``[steps, 2, 16]`` of a row of activations: sums of four, and 512."""
    chosen = np.arange(16)[:, None] >> np.arange(4) & 1
    entries = a.reshape(-1, 4) @ chosen.T + 512
    return np.stack([entries & 31, entries >> 5], 1).astype(np.uint8)


def test_what_is_looked_up_is_a_product(begin: Begin) -> None:
    random = np.random.default_rng(2)
    a, codes = random.integers(-128, 128, 16), random.integers(0, 8, (5, 16))
    planes = np.stack([np.packbits(codes >> n & 1, 1, "little").T for n in range(3)])
    b = begin({"x0": [4, 2, 16], "x1": [3, 2, 5]}, {"y0": [5]}, {"x0": u8, "x1": u8, "y0": i32})
    start = b.full(-512 * 4 * 7, (1, 5), i32)
    b.store(b.look_up(b.inputs[0], [], b.inputs[1], [], start, 0, 0), b.outputs[0], [lane(1, 5)])
    (found,) = interpret.run(b.program, [tables_of(a), planes.astype(np.uint8)], {})
    np.testing.assert_array_equal(found, codes @ a)


def test_a_table_outside_its_buffer_is_caught(begin: Begin) -> None:
    b = begin({"x0": [2, 2, 2, 16], "x1": [1, 1, 4]}, {}, {"x0": u8, "x1": u8})
    b.look_up(b.inputs[0], [2], b.inputs[1], [], b.full(0, (1, 4), i32), 0, 0)
    given = [np.zeros((2, 2, 2, 16), np.uint8), np.zeros((1, 1, 4), np.uint8)]
    with pytest.raises(AssertionError, match=r"2 outside \[0, 2\)"):
        interpret.run(b.program, given, {})


def test_more_look_ups_than_16_bits_sum_are_refused(begin: Begin) -> None:
    b = begin({"x0": [24, 2, 16], "x1": [2, 12, 4]}, {}, {"x0": u8, "x1": u8})
    with pytest.raises(AssertionError, match="24 steps of 2 bits overflow 16 bits"):
        b.look_up(b.inputs[0], [], b.inputs[1], [], b.full(0, (1, 4), i32), 0, 0)
