"""Branches, loops and data-decided sizes, compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tapeout.runtime.errors import RunError

Compiled = Callable[..., Any]
X = np.arange(1, 7, dtype=np.float32)


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_reads_what_stands_outside(compiled: Compiled, flag: bool):
    model = compiled("""
    g (float[N] x, bool c) => (y, z) {
        k = Neg(x)
        y, z = If <
            then_branch = t () => (a, b) { a = Mul(k, x) b = Identity(x) },
            else_branch = e () => (d, f) { d = Exp(k) f = Identity(d) }
        > (c)
    }""")
    y, z = model.agree(x=X, c=flag)
    np.testing.assert_allclose(y, -X * X if flag else np.exp(-X), rtol=1e-5)
    np.testing.assert_allclose(z, X if flag else np.exp(-X), rtol=1e-5)


def test_branches_of_different_sizes(compiled: Compiled):
    model = compiled("""
    g (float[N] x, bool c) => (y, z) {
        y = If <
            then_branch = t () => (a) { a = Concat<axis = 0>(x, x) },
            else_branch = e () => (b) { b = Exp(x) }
        > (c)
        z = Neg(y)
    }""")
    for flag in (True, False, True):
        y, z = model.agree(x=X, c=flag)
        assert y.shape == z.shape == ((12,) if flag else (6,))


def test_nested_loops_whose_carried_values_change_places(compiled: Compiled):
    model = compiled("""
    g (float[N] x, int64 n, int64 m) => (y, z, s) {
        y, z, s = Loop <body = outer (int64 i, bool c, float[N] a, float[N] b)
            => (bool c2, float[N] a2, float[N] b2, float[N] s) {
            c2 = Identity(c)
            w = Loop <body = inner (int64 j, bool d, float[N] u) => (bool d2, float[N] u2) {
                d2 = Identity(d)
                v = Add(u, x)
                k = Add(i, j)
                f = Cast<to = 1>(k)
                u2 = Add(v, f)
            }> (m, , a)
            a2 = Identity(b)
            b2 = Identity(w)
            s = Sub(w, b)
        }> (n, , x, x)
    }""")
    for n, m in ((0, 0), (0, 2), (1, 0), (1, 1), (2, 3), (3, 1), (5, 2)):
        _, _, s = model.agree(x=X, n=n, m=m)
        assert s.shape == (n, 6)


@pytest.mark.parametrize("limit", [0, 50, 100, 1000, 20])
def test_a_loop_that_stops_by_its_own_condition_stacks_as_it_goes(compiled: Compiled, limit: int):
    model = compiled("""
    g (float[N] x, float limit) => (y, s) {
        one = Constant<value_int = 1>()
        yes = Cast<to = 9>(one)
        axis = Constant<value_ints = [0]>()
        y, s = Loop <body = b (int64 i, bool c, float[N] a)
            => (bool c2, float[N] a2, float[N] s) {
            a2 = Add(a, x)
            m = ReduceSum<keepdims = 0>(a2, axis)
            c2 = Less(m, limit)
            s = Neg(a2)
        }> ( , yes, x)
    }""")
    _, s = model.agree(x=X, limit=limit)
    assert s.shape[0] == max(1, -(-limit // 21) - 1)
    model.agree(x=X, limit=10 * limit)
    model.agree(x=X, limit=limit)


def test_a_carried_value_grows(compiled: Compiled):
    model = compiled("""
    g (float[N] x, int64 n) => (y) {
        y = Loop <body = b (int64 i, bool c, float[M] a) => (bool c2, float[K] a2) {
            c2 = Identity(c)
            a2 = Concat<axis = 0>(a, x)
        }> (n, , x)
    }""")
    for n in (0, 1, 7, 2, 30):
        (y,) = model.agree(x=X, n=n)
        np.testing.assert_array_equal(y, np.tile(X, n + 1))


def test_a_scan_over_a_symbolic_axis(compiled: Compiled):
    model = compiled("""
    g (float[S, 3] x, float[3] h) => (y, s) {
        y, s = Scan <num_scan_inputs = 1, body = b (float[3] a, float[3] q)
            => (float[3] a2, float[3] s) { a2 = Add(a, q) s = Mul(a2, q) }> (h, x)
    }""")
    for size in (1, 40, 7):
        x = np.random.default_rng(size).standard_normal((size, 3))
        y, _ = model.agree(x=x, h=np.zeros(3))
        np.testing.assert_allclose(y, x.sum(0), rtol=1e-4, atol=1e-5)


def test_outputs_that_no_kernel_writes(compiled: Compiled):
    model = compiled("""
    g (float[N] x) => (same, twice, again, fixed, shape, size, flat) {
        same = Identity(x)
        twice = Neg(x)
        again = Identity(twice)
        fixed = Constant<value_floats = [1.0, 2.0, 3.0]>()
        shape = Shape(x)
        size = Size(x)
        axes = Constant<value_ints = [1]>()
        flat = Unsqueeze(twice, axes)
    }""")
    for n in (6, 1, 3):
        model.agree(x=X[:n])


@pytest.mark.parametrize("shape", [[6, 4], [0, -1], [-1, 2], [24, 1]])
def test_a_reshape_that_data_decides(compiled: Compiled, shape: Sequence[int]):
    model = compiled("""
    g (float[A, 4] x, int64[2] shape) => (y) {
        e = Exp(x)
        r = Reshape(e, shape)
        y = Neg(r)
    }""")
    model.agree(x=np.arange(24).reshape(6, 4) / 24, shape=shape)


@pytest.mark.parametrize("shape", [[5, 5], [2**40, 2**40], [-3, 8]])
def test_a_shape_that_does_not_fit_is_refused(compiled: Compiled, shape: Sequence[int]):
    model = compiled("""
    g (float[A, 4] x, int64[2] shape) => (y) { r = Reshape(x, shape) y = Neg(r) }""")
    x = np.zeros((6, 4))
    with pytest.raises(RunError, match=r"E051[67]"):
        model.run(x=x, shape=shape)
    model.agree(x=x, shape=[12, 2])


def test_a_result_too_large_for_memory_is_refused(compiled: Compiled):
    model = compiled("g (float[1] x, int64[2] shape) => (y) { y = Expand(x, shape) }")
    with pytest.raises(RunError, match="E0516"):
        model.run(x=[1], shape=[2**31, 2**31])
    with pytest.raises(RunError, match="E0516"):
        model.run(x=[1], shape=[2**61, 2**62])
    model.agree(x=[1], shape=[3, 2])


@pytest.mark.parametrize(("start", "limit", "delta"), [(1, 10, 3), (10, 1, -4), (5, 5, 1)])
def test_a_range_that_data_decides(compiled: Compiled, start: int, limit: int, delta: int):
    model = compiled("g (int64 a, int64 b, int64 d) => (y) { y = Range(a, b, d) }")
    (y,) = model.agree(a=start, b=limit, d=delta)
    np.testing.assert_array_equal(y, np.arange(start, limit, delta))


def test_what_is_found_has_the_size_that_was_found(compiled: Compiled):
    model = compiled("""
    g (float[N, M] x, bool[N] keep) => (places, kept, y, first, inverse, counts) {
        places = NonZero(x)
        kept = Compress<axis = 0>(x, keep)
        y, first, inverse, counts = Unique(x)
    }""")
    random = np.random.default_rng(3)
    for n in (1, 5, 40, 3):
        x = random.integers(0, 3, (n, 4)).astype(np.float32)
        keep = random.integers(0, 2, n).astype(bool)
        places, kept, *_ = model.agree(x=x, keep=keep)
        np.testing.assert_array_equal(places, np.argwhere(x).T)
        np.testing.assert_array_equal(kept, x[keep])
    places, *_ = model.agree(x=np.zeros((2, 2)), keep=[False, False])
    assert places.shape == (2, 0)


def test_what_was_found_feeds_kernels_and_loops(compiled: Compiled):
    """A found size is a size like any other: of products, of reductions, of a loop's values."""
    model = compiled("""
    g (float[N, 4] x, bool[N] keep, int64 n) => (y, s) {
        k = Compress<axis = 0>(x, keep)
        t = Transpose<perm = [1, 0]>(k)
        p = MatMul(k, t)
        m = Softmax<axis = 0>(p)
        y, s = Loop <body = b (int64 i, bool c, float[P, P] a)
            => (bool c2, float[P, P] a2, float[P] s) {
            c2 = Identity(c)
            q = MatMul(a, m)
            a2 = Tanh(q)
            axis = Constant<value_ints = [1]>()
            s = ReduceSum<keepdims = 0>(a2, axis)
        }> (n, , p)
    }""")
    random = np.random.default_rng(5)
    for n, trips in ((5, 2), (33, 3), (8, 0), (20, 1)):
        keep = random.integers(0, 2, n).astype(bool)
        keep[0] = True
        model.agree(x=random.standard_normal((n, 4)), keep=keep, n=trips)
