"""Sizes that a graph computes in floats are known while it is imported, where floats are exact."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeout.frontend.onnx import ratios
from tapeout.ir.dtypes import DType, f32, f64, i64
from tapeout.ir.expr import symbol

Import = Callable[..., Any]
Step = tuple[str, float | None]


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


ARRAYS: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.round,
    "relu": relu,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
}
UNARY = ("neg", "floor", "ceil", "trunc", "round", "relu")
NUMBERS = [0.1, 0.25, 1 / 3, 0.5, 0.7, 0.75, 1.0, 1.5, 2.0, 3.0, 7.0, 10.0, 32.0, -2.0, -0.5, 1e-3]
STEPS = st.one_of(
    st.tuples(st.sampled_from(UNARY), st.none()),
    st.tuples(st.sampled_from([n for n in ARRAYS if n not in UNARY]), st.sampled_from(NUMBERS)),
)


def by_fractions(size: Any, steps: Sequence[Step], dtype: DType) -> Any:
    """What is known of ``int(steps(float(size)))``."""
    bits = ratios.SIGNIFICAND_BITS[dtype]
    value = ratios.from_integer(size, bits)
    for fn, number in steps:
        others = [] if number is None else [ratios.element(dtype.numpy.type(number))]
        value = None if value is None else ratios.FUNCTIONS[fn](value, *others, bits=bits)
    return ratios.to_integer(value, i64)


def by_floats(sizes: np.ndarray, steps: Sequence[Step], dtype: DType) -> np.ndarray:
    """The same by numpy."""
    value = sizes.astype(dtype.numpy)
    for fn, number in steps:
        others = [] if number is None else [dtype.numpy.type(number)]
        value = ARRAYS[fn](value, *others)
        assert value.dtype == dtype.numpy
    return value.astype(np.int64)


@settings(max_examples=1500)
@example((0, 9000), [("mul", 0.7), ("floor", None)], f32, [10, 20, 30])
@example((1, 1 << 24), [("div", 3.0), ("ceil", None)], f32, [3, (1 << 24) - 1])
@example((1, 1 << 24), [("mul", 0.5), ("add", 0.5), ("floor", None)], f32, [1 << 24])
@given(
    st.sampled_from([(0, 7), (1, 300), (1, 9000), (1, (1 << 22) + 5), (1, 1 << 24), (5, 1 << 25)]),
    st.lists(STEPS, min_size=1, max_size=5),
    st.sampled_from([f32, f64]),
    st.lists(st.integers(0, 1 << 25), min_size=1, max_size=40),
)
def test_what_is_known_is_what_floats_compute(
    limits: tuple[int, int], steps: list[Step], dtype: DType, values: list[int]
) -> None:
    size = symbol("N", *limits)
    known = by_fractions(size, steps, dtype)
    if known is not None:
        sizes = np.array([min(max(v, limits[0]), limits[1]) for v in (*values, *limits)])
        want = by_floats(sizes, steps, dtype)
        have = [known.evaluate({"N": int(v)}) for v in sizes]
        assert have == want.tolist(), (steps, str(known))


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([("mul", 0.5), ("floor", None)], "(N // 2)"),
        ([("mul", 1.5)], "N + (N // 2)"),
        ([("div", 3.0), ("ceil", None)], "((N + 2) // 3)"),
        ([("div", 3.0), ("floor", None), ("mul", 2.0)], "2*(N // 3)"),
        ([("mul", 0.25), ("floor", None), ("max", 1.0)], "max(1, (N // 4))"),
        ([("sub", 1.0), ("div", 2.0), ("floor", None), ("add", 1.0)], "((N + 1) // 2)"),
        # 0.7 as a float is no simple fraction: only the run rounds as the model does.
        ([("mul", 0.7), ("floor", None)], None),
        # Rounded once, then used again: the errors would add up.
        ([("div", 3.0), ("mul", 3.0)], None),
        # Toward zero, and the sign is open.
        ([("sub", 2.5)], None),
    ],
)
def test_chains_of_exporters_are_expressions(steps: list[Step], known: str | None) -> None:
    have = by_fractions(symbol("N", 1, 10_000), steps, f32)
    assert have is None if known is None else str(have) == known


def halved(imported: Import, dims: Any = None) -> Any:
    return imported(
        """
    g (float[N, 3] x) => (y) {
        n = Shape<end = 1>(x)
        f = Cast<to = 1>(n)
        half = Constant<value_float = 0.75>()
        part = Mul(f, half)
        low = Floor(part)
        last = Cast<to = 7>(low)
        zero = Constant<value_ints = [0]>()
        y = Slice(x, zero, last)
    }""",
        dims=dims,
    )


def test_an_open_size_ends_where_floats_count_it_exactly(imported: Import) -> None:
    model = halved(imported)
    assert model.outputs == ["((3*N) // 4), 3"]
    (n,) = next(model.module.entries()).body.block.args[0].type.data.dims[0].symbols()
    assert (n.lo, n.hi) == (1, (1 << 24) // 3)
    x = np.arange(21, dtype="f").reshape(7, 3)
    np.testing.assert_array_equal(model.run(x=x)[0], x[:5])


def test_a_range_that_was_asked_for_stays(imported: Import) -> None:
    model = halved(imported, {"N": (1, 1 << 30)})
    assert model.outputs == ["n0, 3"]
    x = np.arange(21, dtype="f").reshape(7, 3)
    np.testing.assert_array_equal(model.run(x=x)[0], x[:5])


def test_a_mean_limits_no_size(imported: Import) -> None:
    model = imported("""
    g (float[N, 3] x) => (y) {
        n = Shape<end = 1>(x)
        f = Cast<to = 1>(n)
        y = Div(x, f)
    }""")
    (n,) = next(model.module.entries()).body.block.args[0].type.data.dims[0].symbols()
    assert n.hi is None


def test_a_scaled_resize_has_known_sizes(imported: Import) -> None:
    # What older versions of torch write for interpolate(x, scale_factor=2).
    model = imported(
        """
    g (float[1, 2, H, W] x) => (y) {
        shape = Shape(x)
        i2 = Constant<value_int = 2>()
        i3 = Constant<value_int = 3>()
        axis = Constant<value_ints = [0]>()
        h = Gather(shape, i2)
        w = Gather(shape, i3)
        two = Constant<value_float = 2.0>()
        h1 = Cast<to = 1>(h)
        w1 = Cast<to = 1>(w)
        h2 = Mul(h1, two)
        w2 = Mul(w1, two)
        h3 = Floor(h2)
        w3 = Floor(w2)
        h4 = Unsqueeze(h3, axis)
        w4 = Unsqueeze(w3, axis)
        size = Concat<axis = 0>(h4, w4)
        whole = Cast<to = 7>(size)
        first = Constant<value_ints = [1, 2]>()
        sizes = Concat<axis = 0>(first, whole)
        y = Resize<mode = "nearest">(x, , , sizes)
    }"""
    )
    assert model.outputs == ["1, 2, 2*H, 2*W"]
    assert model.run(x=np.ones((1, 2, 3, 5), "f"))[0].shape == (1, 2, 6, 10)
