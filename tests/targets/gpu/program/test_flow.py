"""What the host decides by is read from the device: branches, loops, sizes that data decides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.runtime.errors import RunError

OnGpu = Callable[..., Any]
X = np.arange(1, 7, dtype=np.float32)


def test_branches_of_different_sizes(on_gpu: OnGpu) -> None:
    model = on_gpu("""
    g (float[N] x, bool c) => (y, z) {
        k = Neg(x)
        y = If <
            then_branch = t () => (a) { a = Concat<axis = 0>(k, x) },
            else_branch = e () => (b) { b = Exp(k) }
        > (c)
        z = Neg(y)
    }""")
    runs = model.agree(*({"x": X, "c": flag} for flag in (True, False, True)))
    assert [run["z"].shape for run in runs] == [(12,), (6,), (12,)]


def test_a_loop_carries_values_counts_and_stacks(on_gpu: OnGpu) -> None:
    model = on_gpu("""
    g (float[N] x, int64 n) => (y, z, s) {
        y, z, s = Loop <body = outer (int64 i, bool c, float[N] a, float[N] b)
            => (bool c2, float[N] a2, float[N] b2, float[N] s) {
            c2 = Identity(c)
            f = Cast<to = 1>(i)
            w = Add(a, f)
            a2 = Identity(b)
            b2 = Add(w, x)
            s = Sub(w, b)
        }> (n, , x, x)
    }""")
    runs = model.agree(*({"x": X, "n": n} for n in (0, 1, 5, 2)))
    assert [len(run["s"]) for run in runs] == [0, 1, 5, 2]


def test_a_loop_that_stops_by_its_own_condition_stacks_as_it_goes(on_gpu: OnGpu) -> None:
    model = on_gpu("""
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
    limits = (0, 50, 1000, 100)
    runs = model.agree(*({"x": X, "limit": limit} for limit in limits))
    assert [len(run["s"]) for run in runs] == [max(1, -(-limit // 21) - 1) for limit in limits]


def test_what_is_found_has_the_size_that_was_found(on_gpu: OnGpu) -> None:
    model = on_gpu("""
    g (float[N, 4] x, bool[N] keep) => (places, kept, p) {
        places = NonZero(x)
        kept = Compress<axis = 0>(x, keep)
        t = Transpose<perm = [1, 0]>(kept)
        p = MatMul(kept, t)
    }""")
    random = np.random.default_rng(3)
    sizes = (1, 40, 3)
    keeps = [random.integers(0, 2, n).astype(bool) for n in sizes]
    xs = [random.integers(0, 3, (n, 4)) for n in sizes]
    runs = model.agree(*({"x": x, "keep": k} for x, k in zip(xs, keeps, strict=True)))
    for run, x in zip(runs, xs, strict=True):
        np.testing.assert_array_equal(run["places"], np.argwhere(x).T)


def test_a_shape_that_data_decides_is_held_to_what_it_must_be(on_gpu: OnGpu) -> None:
    model = on_gpu("""
    g (float[A, 4] x, int64[2] shape) => (y) {
        e = Neg(x)
        r = Reshape(e, shape)
        y = Neg(r)
    }""")
    x = np.arange(24).reshape(6, 4)
    model.agree({"x": x, "shape": [0, -1]}, {"x": x, "shape": [24, 1]})
    with pytest.raises(RunError, match=r"E051[67]"):
        model.run(x=x, shape=[5, 5])


def test_outputs_that_no_kernel_writes(on_gpu: OnGpu) -> None:
    model = on_gpu("""
    g (float[N] x) => (same, twice, again, fixed, shape) {
        same = Identity(x)
        twice = Neg(x)
        again = Identity(twice)
        fixed = Constant<value_floats = [1.0, 2.0, 3.0]>()
        shape = Shape(x)
    }""")
    model.agree({"x": X}, {"x": X[:1]})
