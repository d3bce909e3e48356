"""What the lanes of a warp do together, and how lanes part and meet."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Lanes = Callable[..., list[Array]]
LANE = np.arange(128) % 32
WARP = np.arange(128) // 32


def values() -> Array:
    return np.random.default_rng(0).integers(0, 2**32, 128, np.uint32)


def source(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """PTX ISA 9.7.9.6, as its pseudocode has it."""
    segment, limit = c >> 8 & 31, c & 31
    last = (lane & segment) | (limit & ~segment)
    first = lane & segment
    j = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": first | (b & ~segment)}[mode]
    valid = j >= last if mode == "up" else j <= last
    return (j if valid else lane), valid


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("b", [0, 1, 5, 16, 31])
@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(lanes: Lanes, mode: str, b: int, width: int) -> None:
    a = values()
    c = (32 - width) << 8 | (0 if mode == "up" else 31)
    code = f"shfl.sync.{mode}.b32 x|p, a, {b}, {c}, -1; selp.u32 y, 1, 0, p;"
    x, y = lanes(code, {"x": np.uint32, "y": np.uint32}, a=a)
    for lane in range(128):
        j, valid = source(mode, lane % 32, b, c)
        assert (x[lane], y[lane]) == (a[lane // 32 * 32 + j], valid)


@pytest.mark.parametrize(("name", "function"), [("add", np.sum), ("min", np.min), ("max", np.max)])
@pytest.mark.parametrize("kind", ["s32", "u32"])
def test_reductions(lanes: Lanes, name: str, function: Any, kind: str) -> None:
    a = values()
    (x,) = lanes(f"redux.sync.{name}.{kind} x, a, 0xffffffff;", {"x": np.uint32}, a=a)
    typed = a.view(np.int32 if kind == "s32" else np.uint32).reshape(4, 32)
    reduced = function(typed.astype(np.int64), axis=1).astype(np.uint32)
    np.testing.assert_array_equal(x, np.repeat(reduced, 32))


def test_a_reduction_over_a_part_of_the_warp(lanes: Lanes) -> None:
    a = values()
    code = """and.b32 t, t, 31; setp.lt.u32 p, t, 8; mov.u32 x, 0;
        @p redux.sync.or.b32 x, a, 0xff;"""
    (x,) = lanes(code, {"x": np.uint32}, a=a)
    reduced = np.bitwise_or.reduce(a.reshape(4, 32)[:, :8], axis=1)
    np.testing.assert_array_equal(x, np.where(LANE < 8, np.repeat(reduced, 32), 0))


def test_votes(lanes: Lanes) -> None:
    a = values()
    a[:32], a[32:64] = 1, 2
    code = """and.b32 t, a, 1; setp.eq.u32 p, t, 1; vote.sync.ballot.b32 x, p, -1;
        vote.sync.all.pred q, p, -1; selp.u32 y, 1, 0, q; vote.sync.any.pred q, !p, -1;
        selp.u32 z, 1, 0, q; @p activemask.b32 w;"""
    x, y, z, w = lanes(code, {n: np.uint32 for n in "xyzw"}, a=a)
    odd = (a & 1).astype(bool).reshape(4, 32)
    ballot = (odd * (np.uint64(1) << np.arange(32, dtype=np.uint64))).sum(1).astype(np.uint32)
    np.testing.assert_array_equal(x, np.repeat(ballot, 32))
    np.testing.assert_array_equal(y, np.repeat(odd.all(1), 32))
    np.testing.assert_array_equal(z, np.repeat((~odd).any(1), 32))
    np.testing.assert_array_equal(w, np.where(odd.ravel(), x, 0))


def test_lanes_with_the_same_value_find_each_other(lanes: Lanes) -> None:
    a = values() % 5
    (x,) = lanes("match.any.sync.b32 x, a, -1;", {"x": np.uint32}, a=a)
    for lane in range(128):
        peers = np.flatnonzero(a.reshape(4, 32)[lane // 32] == a[lane])
        assert x[lane] == sum(1 << int(p) for p in peers)


def test_one_lane_is_elected(lanes: Lanes) -> None:
    (x,) = lanes("elect.sync _|p, -1; selp.u32 x, 1, 0, p;", {"x": np.uint32}, a=values())
    np.testing.assert_array_equal(x, LANE == 0)


def test_lanes_that_parted_meet_again(lanes: Lanes) -> None:
    """A loop with as many turns as the lane says, and a shuffle of all lanes after it."""
    a = values() % 17
    code = """.reg .b32 n, s; mov.u32 n, 0; mov.u32 s, 0;
        LOOP: setp.ge.u32 p, n, a; @p bra DONE;
        add.u32 s, s, n; add.u32 n, n, 1; setp.eq.u32 q, n, 7; @q bra SKIP;
        add.u32 s, s, 100; SKIP: bra.uni LOOP;
        DONE: shfl.sync.bfly.b32 y, s, 1, 31, -1; mov.u32 x, s;"""
    x, y = lanes(code, {"x": np.uint32, "y": np.uint32}, a=a)
    np.testing.assert_array_equal(x, a * (a - 1) // 2 + 100 * (a.astype(int) - (a >= 7)))
    np.testing.assert_array_equal(y, x.reshape(-1, 2)[:, ::-1].ravel())


def test_special_registers(lanes: Lanes) -> None:
    code = """mov.u32 x, %laneid; mov.u32 y, %warpid; mov.u32 z, %nctaid.x; mov.u32 w, %ctaid.x;
        mov.u32 v, %lanemask_lt; mov.u32 u, WARP_SZ;"""
    a = np.zeros(256, np.uint32)
    x, y, z, w, v = lanes(code, {n: np.uint32 for n in "xyzwv"}, a=a)
    np.testing.assert_array_equal(x, np.tile(LANE, 2))
    np.testing.assert_array_equal(y, np.tile(WARP, 2))
    np.testing.assert_array_equal(z, np.full(256, 2))
    np.testing.assert_array_equal(w, np.arange(256) // 128)
    np.testing.assert_array_equal(v, (1 << np.tile(LANE, 2)) - 1)
