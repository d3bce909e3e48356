"""Memory, compares, selects, arithmetic, minimum and maximum, reductions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

INTS = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]
FLOATS = ["f32", "f64"]
TYPES = INTS + FLOATS
COMPARES = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip


def kernels_of(t: str) -> dict[str, tuple[str, str]]:
    """One kernel for everything that the core offers for the element type ``t``."""
    pointer, result = f"const {t} *p = in[0];", f"{t} *r = out;"
    kernels = {
        f"{op}_{t}": (f"{t},{t}->{t}", f"v_{op}_{t}(a, b)")
        for op in ["add", "sub", "mul", "max", "min", "fastmax", "fastmin"]
    }
    kernels |= {f"{op}_{t}": (f"{t},{t}->u8", f"v_bool_{t}(v_{op}_{t}(a, b))") for op in COMPARES}
    kernels |= {
        f"s_{op}_{t}": (
            f"{t},{t}->{t}",
            f"{pointer} const {t} *q = in[1]; {result}"
            f"for (i64 i = 0; i < n; i++) r[i] = s_{op}_{t}(p[i], q[i]);",
        )
        for op in ["add", "sub", "mul", "max", "min"]
    }
    kernels |= {
        f"h{op}_{t}": (
            f"{t}->{t}",
            f"{pointer} {result}"
            f"for (i64 i = 0; i < n; i++) r[i] = v_h{op}_{t}(v_load_{t}(p + i * TO_LANES));",
        )
        for op in ["sum", "prod", "max", "min"]
    }
    if t in FLOATS:
        for name in ("is_nan", "is_inf"):
            kernels[f"{name}_{t}"] = (f"{t}->u8", f"v_bool_{t}(v_{name}_{t}(a))")
    kernels[f"operators_{t}"] = (f"{t},{t}->u8", f"v_bool_{t}(a < b)")
    kernels[f"neg_{t}"] = (f"{t}->{t}", f"v_neg_{t}(a)")
    kernels[f"sel_{t}"] = (f"u8,{t},{t}->{t}", f"v_sel_{t}(a, b, c)")
    kernels[f"whole_{t}"] = (f"{t}->{t}", f"{result} {pointer} v_store_{t}(r, v_load_{t}(p));")
    kernels[f"tail_{t}"] = (
        f"{t}->{t}",
        f"{result} {pointer} v_store_{t}(r, v_load_n_{t}(p, n)); v_store_n_{t}(r + TO_LANES, "
        f"v_splat_{t}(7), n);",
    )
    kernels[f"iota_{t}"] = (f"{t}->{t}", f"{result} {pointer} v_store_{t}(r, v_iota_{t}(p[0]));")
    kernels[f"gather_{t}"] = (
        f"{t}->{t}",
        f"{result} {pointer} v_store_{t}(r, v_gather_{t}(p, n));",
    )
    kernels[f"scatter_{t}"] = (
        f"{t}->{t}", f"{result} {pointer} v_scatter_{t}(r, n, v_load_{t}(p));"
    )  # fmt: skip
    kernels[f"index_{t}"] = (
        f"{t}->{t}",
        f"{result} {pointer} v_store_{t}(r, v_gather_idx_{t}(p, v_load_i64(in[1])));",
    )
    kernels[f"index32_{t}"] = (
        f"{t}->{t}",
        f"{result} {pointer} v_store_{t}(r, v_gather_idx32_{t}(p, v_load_i32(in[1])));",
    )
    return kernels


KERNELS = {name: kernel for t in TYPES for name, kernel in kernels_of(t).items()}
KERNELS.update(
    {
        f"h{name}": (
            "u8->u8",
            "for (i64 i = 0; i < n; i++) ((u8 *)out)[i] = "
            f"v_h{name}_u8(v_load_u8((const u8 *)in[0] + i * TO_LANES));",
        )
        for name in ("any", "all")
    }
)


def dtype_of(t: str) -> np.dtype[Any]:
    return np.dtype(f"<{t[0]}{int(t[1:]) // 8}")


def values(t: str, n: int, seed: int = 1) -> Array:
    """``n`` random values with every extreme among them."""
    rng, dtype = np.random.default_rng(seed), dtype_of(t)
    if t in FLOATS:
        edges = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 1e-45, 3.0, -3.0]
        return np.concatenate([rng.choice(edges, n // 2), rng.normal(size=n - n // 2)]).astype(
            dtype
        )
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.max, 0, 1, info.max - 1, info.min + 1], dtype)
    spread = rng.integers(info.min, info.max, n - n // 2, dtype, endpoint=True)
    return np.concatenate([rng.choice(edges, n // 2), spread])


@pytest.fixture
def run(build: Build, isa: str) -> Callable[..., Array]:
    return build(isa, "vec.h", KERNELS)


@pytest.mark.parametrize("t", TYPES)
def test_tails_touch_only_their_lanes(run: Callable[..., Array], lanes: int, t: str) -> None:
    # a width has one way of masking, whatever its type: every n once per width
    counts = range(-1, lanes + 2) if t.startswith("i") else [0, 1, lanes - 1]
    for n in counts:
        kept = min(max(n, 0), lanes)
        x = values(t, lanes)
        got = run(f"tail_{t}", x[:kept].copy(), n=n, size=lanes + kept)
        np.testing.assert_array_equal(got[:kept], x[:kept])
        np.testing.assert_array_equal(got[kept:lanes], 0)
        np.testing.assert_array_equal(got[lanes:], 7)


@pytest.mark.parametrize("t", TYPES)
def test_memory_by_stride_and_by_index(run: Callable[..., Array], lanes: int, t: str) -> None:
    stride = 3
    x = values(t, stride * (lanes - 1) + 1)
    np.testing.assert_array_equal(run(f"whole_{t}", x[:lanes]), x[:lanes])
    np.testing.assert_array_equal(run(f"gather_{t}", x, n=stride, size=lanes), x[::stride])
    got = run(f"scatter_{t}", x[:lanes], n=stride, size=x.size)
    np.testing.assert_array_equal(got[::stride], x[:lanes])
    np.testing.assert_array_equal(got[1::stride], 0)
    index = np.random.default_rng(2).integers(0, x.size, lanes)
    for name, wide in (("index", np.int64), ("index32", np.int32)):
        got = run(f"{name}_{t}", x, index.astype(wide), size=lanes)
        np.testing.assert_array_equal(got, x[index])
    base = np.array([5], x.dtype)
    got = run(f"iota_{t}", base, size=lanes)
    np.testing.assert_array_equal(got, np.arange(5, 5 + lanes).astype(x.dtype))


@pytest.mark.parametrize("t", TYPES)
def test_compares_and_selects(run: Callable[..., Array], t: str) -> None:
    a, b = values(t, 301, 3), values(t, 301, 4)
    for op, reference in COMPARES.items():
        np.testing.assert_array_equal(run(f"{op}_{t}", a, b), reference(a, b), err_msg=op)
    np.testing.assert_array_equal(run(f"operators_{t}", a, b), a < b)
    if t in FLOATS:
        np.testing.assert_array_equal(run(f"is_nan_{t}", a), np.isnan(a))
        np.testing.assert_array_equal(run(f"is_inf_{t}", a), np.isinf(a))
    # any non-zero byte is true
    condition = np.random.default_rng(5).choice(np.array([0, 0, 1, 2, 255], np.uint8), a.size)
    got = run(f"sel_{t}", condition, a, b, n=a.size)
    np.testing.assert_array_equal(got, np.where(condition != 0, a, b))


@pytest.mark.parametrize("t", TYPES)
def test_arithmetic_wraps_and_extremes_propagate_nan(run: Callable[..., Array], t: str) -> None:
    a, b = values(t, 301, 3), values(t, 301, 4)
    with np.errstate(all="ignore"):
        for prefix in ("", "s_"):
            np.testing.assert_array_equal(run(f"{prefix}add_{t}", a, b), a + b)
            np.testing.assert_array_equal(run(f"{prefix}sub_{t}", a, b), a - b)
            np.testing.assert_array_equal(run(f"{prefix}mul_{t}", a, b), a * b)
            np.testing.assert_array_equal(run(f"{prefix}max_{t}", a, b), np.maximum(a, b))
            np.testing.assert_array_equal(run(f"{prefix}min_{t}", a, b), np.minimum(a, b))
        # the fast ones give b where either is NaN, and for two zeros
        for name, reference in (
            ("fastmax", np.where(a > b, a, b)),
            ("fastmin", np.where(a < b, a, b)),
        ):
            got = run(f"{name}_{t}", a, b)
            np.testing.assert_array_equal(got.view(np.uint8), reference.view(np.uint8))
        np.testing.assert_array_equal(run(f"neg_{t}", a), np.negative(a))


def tree(x: Array, op: Callable[[Array, Array], Array]) -> Array:
    """The stated order: lane i meets lane i + half."""
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = op(x[:, :half], x[:, half:])
    return x[:, 0]


@pytest.mark.parametrize("t", TYPES)
def test_reductions_keep_the_stated_order(run: Callable[..., Array], lanes: int, t: str) -> None:
    x = values(t, 64 * lanes, 6)
    if t in FLOATS:
        x = np.concatenate([x, np.random.default_rng(8).normal(size=64 * lanes).astype(x.dtype)])
    rows = x.reshape(-1, lanes)
    with np.errstate(all="ignore"):
        for name, op in (("sum", np.add), ("prod", np.multiply), ("max", np.maximum),
                         ("min", np.minimum)):  # fmt: skip
            got = run(f"h{name}_{t}", x, n=len(rows))
            np.testing.assert_array_equal(got, tree(rows, op), err_msg=name)


def test_bools_reduce_to_any_and_all(run: Callable[..., Array], lanes: int) -> None:
    rows = np.array([[0] * lanes, [2] * lanes, [0] * (lanes - 1) + [255], [1] * (lanes - 1) + [0]])
    x = rows.astype(np.uint8)
    np.testing.assert_array_equal(run("hany", x, n=4), [0, 1, 1, 1])
    np.testing.assert_array_equal(run("hall", x, n=4), [0, 1, 0, 0])
