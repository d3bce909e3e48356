"""Triton's other kernels, compiled for sm_80, against numpy."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Build = Callable[..., Any]

BF16 = np.dtype(ml_dtypes.bfloat16)
HALVES = {"bf16": BF16, "fp16": np.dtype(np.float16)}


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(size: int, low: int, high: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, size).astype(np.int32)


@pytest.mark.parametrize("n", [1, 1000, 5000])
def test_add_with_a_mask(build: Build, n: int) -> None:
    x, y, out = normal(n), normal(n, seed=1), np.zeros(n, np.float32)
    build("add", "*fp32 *fp32 *fp32 i32", BLOCK=1024)((-(-n // 1024),), x, y, out, n)
    np.testing.assert_array_equal(out, x + y)


@pytest.mark.parametrize("warps", [1, 4, 8])
def test_softmax(build: Build, warps: int) -> None:
    x = normal(7, 1000).astype(BF16)
    out = np.zeros_like(x)
    build("softmax", "*bf16 *bf16 i32", warps=warps, BLOCK=1024)((7,), x, out, 1000)
    e = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(out.astype(float), e / e.sum(1, keepdims=True), rtol=1e-2)


def test_layer_norm(build: Build) -> None:
    x, w, b = (
        normal(*s, seed=n).astype(np.float16) for n, s in enumerate([(9, 500), (500,), (500,)])
    )
    out = np.zeros_like(x)
    kernel = build("layer_norm", "*fp16 *fp16 *fp16 *fp16 i32 fp32", BLOCK=512)
    kernel((9,), x, w, b, out, 500, 1e-5)
    z = x.astype(np.float64)
    exact = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5) * w + b
    np.testing.assert_allclose(out.astype(float), exact, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    ("kind", "R", "BLOCK"), [("fp32", 4, 256), ("i32", 32, 64), ("fp32", 1, 2048)]
)
def test_reductions(build: Build, kind: str, R: int, BLOCK: int) -> None:
    cols = BLOCK - 6
    x = normal(4 * R, cols) if kind == "fp32" else whole(4 * R * cols, -999, 999).reshape(-1, cols)
    total, top, low = (np.zeros(4 * R, x.dtype) for _ in range(3))
    at = np.zeros(4 * R, np.int32)
    kernel = build("reduce_rows", f"*{kind} *{kind} *{kind} *{kind} *i32 i32", R=R, BLOCK=BLOCK)
    kernel((4,), x, total, top, low, at, cols)
    padded = np.pad(x, ((0, 0), (0, 6)))
    np.testing.assert_allclose(total, padded.sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(top, padded.max(1))
    np.testing.assert_array_equal(low, padded.min(1))
    np.testing.assert_array_equal(at, padded.argmax(1))


def test_scans(build: Build) -> None:
    x = normal(16, 128)
    rows, columns = np.zeros_like(x), np.zeros_like(x)
    build("scan_rows", "*fp32 *fp32 *fp32 i32", R=16, BLOCK=128)((1,), x, rows, columns, 128)
    np.testing.assert_allclose(rows, x.cumsum(1), atol=1e-4)
    np.testing.assert_allclose(columns, x.cumsum(0), atol=1e-4)


def test_a_recurrence_as_a_scan(build: Build) -> None:
    g = np.random.default_rng(0).uniform(0.5, 1, 1024).astype(np.float32)
    v, out = normal(1024), np.zeros(1024, np.float32)
    build("prefix", "*fp32 *fp32 *fp32 i32", BLOCK=1024)((1,), g, v, out, 1)
    state, exact = 0.0, list[float]()
    for gate, value in zip(g.tolist(), v.tolist(), strict=True):
        state = state * gate + value
        exact.append(state)
    np.testing.assert_allclose(out, exact, atol=1e-4)


def test_a_histogram_by_atomics(build: Build) -> None:
    n = 3000
    x = whole(n, 0, 50)
    weights, counts = np.zeros(50, np.float32), np.zeros(50, np.int32)
    last, first = np.full(50, -1, np.int32), np.full(50, n, np.int32)
    kernel = build("histogram", "*i32 *fp32 *i32 *i32 *i32 i32", BLOCK=256)
    kernel((12,), x, weights, counts, last, first, n)
    wanted = np.bincount(x, minlength=50)
    np.testing.assert_array_equal(counts, wanted)
    np.testing.assert_array_equal(weights, wanted * 1.5)
    for value in range(50):
        places = np.flatnonzero(x == value)
        assert (first[value], last[value]) == (places[0], places[-1])


def test_atomics_return_what_was_there(build: Build) -> None:
    x, out = whole(256, -1000, 1000), whole(256, -1000, 1000, seed=1)
    before, old = out.copy(), np.zeros(256, np.int32)
    build("atomics_misc", "*i32 *i32 *i32 i32", BLOCK=256)((1,), x, out, old, 256)
    masked = x & 0xFF
    set_ = masked | 0x100
    flipped = set_ ^ 3
    np.testing.assert_array_equal(old, before + x + masked + set_ + flipped)
    np.testing.assert_array_equal(out, np.where(flipped == x, x + 1, flipped))


def test_atomics_of_floats(build: Build) -> None:
    x = whole(1000, -8, 8).astype(np.float32)
    total, top = np.zeros(16, np.float16), np.full(16, -100, np.float32)
    build("half_atomics", "*fp32 *fp16 *fp32 i32", BLOCK=256)((4,), x, total, top, 1000)
    rows = np.pad(x, (0, 8)).reshape(-1, 16)
    np.testing.assert_array_equal(total, rows.sum(0))
    np.testing.assert_array_equal(top, rows.max(0))


@pytest.mark.parametrize("parts", [2, 8, 50])
def test_the_last_cta_adds_what_others_left(build: Build, parts: int) -> None:
    x = normal(parts, 256)
    partial, counter, out = np.zeros_like(x), np.zeros(1, np.int32), np.zeros(256, np.float32)
    kernel = build("split_sum", "*fp32 *fp32 *i32 *fp32 i32 i32", BLOCK=256)
    kernel((parts,), x, partial, counter, out, x.size, parts)
    np.testing.assert_allclose(out, 2 * x.sum(0), atol=1e-4)
    assert counter[0] == 0


def test_ctas_that_spin_on_a_lock(build: Build) -> None:
    x, lock, out = normal(40, 256), np.zeros(1, np.int32), np.zeros(256, np.float32)
    build("locked_sum", "*fp32 *i32 *fp32", BLOCK=256)((40,), x, lock, out)
    np.testing.assert_allclose(out, x.sum(0), atol=1e-4)


def test_gathers(build: Build) -> None:
    x = normal(4, 128)
    index = np.random.default_rng(0).permutation(128).astype(np.int32)
    out, picked = np.zeros((4, 128), np.float32), np.zeros((4, 4, 128), np.float32)
    build("gather", "*fp32 *i32 *fp32 *fp32 i32", R=4, BLOCK=128)((4,), x, index, out, picked, 128)
    np.testing.assert_array_equal(out, x[:, index])
    np.testing.assert_array_equal(picked, np.broadcast_to(x[:, index], (4, 4, 128)))


@pytest.mark.parametrize(("kind", "dtype"), [("fp32", np.float32), ("bf16", BF16), ("i8", np.int8)])
def test_transposition(build: Build, kind: str, dtype: Any) -> None:
    x = whole(7000, -99, 99).reshape(100, 70).astype(dtype)
    out = np.zeros((70, 100), dtype)
    build("transpose", f"*{kind} *{kind} i32 i32", BM=64, BN=32)((2, 3), x, out, 100, 70)
    np.testing.assert_array_equal(out, x.T)


def test_maths_of_triton_and_libdevice(build: Build) -> None:
    ends = [0, -0.0, 1e-3, -1e-3, 1, -1, 20, -20, 80, -80, 5e4, 1e5, -2e5, 0.5, 2.5, -0.5]
    x = np.concatenate([3 * normal(120), np.random.default_rng(1).uniform(-1, 1, 120), ends])
    x = x.astype(np.float32)
    out = np.zeros((29, 256), np.float32)
    build("maths", "*fp32 *fp32 i32", BLOCK=256)((1,), x, out, 256)
    v = x.astype(np.float64)
    p = (np.abs(x) + np.float32(0.1)).astype(np.float64)
    erf = np.array([math.erf(value) for value in v.tolist()])
    with np.errstate(all="ignore"):
        exact = [
            *(np.exp(v), np.log(p), np.exp2(v), np.log2(p), np.sin(v), np.cos(v)),
            *(np.sqrt(p), np.sqrt(p), 1 / np.sqrt(p), erf, v / p, v / p, v / p),
            *(np.floor(v), np.ceil(v), 1 / (1 + np.exp(-v)), v * p + v, np.tanh(v), p**v),
            *(np.rint(x * np.float32(10)), np.expm1(v), np.log1p(p), np.arctan2(v, p), np.cos(v)),
            *(np.trunc(x * np.float32(10) + np.copysign(0.5, v)), np.fmod(v, p)),
            *(np.clip(v, -1, 1), np.zeros(256), np.minimum(v, p) + np.arccos(v)),
        ]
        rounded = np.stack(exact).astype(np.float32)
    np.testing.assert_allclose(out, rounded, rtol=3e-6, atol=3e-6)


def test_integer_arithmetic(build: Build) -> None:
    a, b = whole(256, -(2**31), 2**31), whole(256, -1000, 1000, seed=1)
    b[b == 0], a[:20] = 7, np.arange(-10, 10)
    out = np.zeros((15, 256), np.int32)
    build("integers", "*i32 *i32 *i32 i32", BLOCK=256)((1,), a, b, out, 256)
    for lane, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        long = abs(x << 20) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        ux, uy = x % 2**32, y % 2**32
        narrow = np.array([x % 2**16, y % 2**16], np.uint16).view(np.int16)
        product = int((narrow[:1] * narrow[1:])[0])
        low = np.array(x % 256, np.uint8)
        exact = [
            *(quotient, x - quotient * y, ux * uy >> 32, x << (y & 31), x >> (y & 31)),
            *(x * y >> 7, min(x, y) + max(x, y) * abs(x), (x ^ y) | (x & ~y)),
            *(32 - ux.bit_length() + uy.bit_count(), int(f"{ux:032b}"[::-1], 2)),
            *(ux & 0xFFFF | uy << 16, (ux >> 3) + product, long),
            *(int(low) + int(low.view(np.int8)), (ux & -ux).bit_length() + (x * y >> 32)),
        ]
        got = [int(row) % 2**32 for row in out[:, lane]]
        assert got == [e % 2**32 for e in exact], (x, y)


def test_conversions(build: Build) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(256) * 50, rng.uniform(0, 100, 256)]).astype(np.float32)
    types = [
        np.float16,
        BF16,
        np.int8,
        np.uint8,
        np.int32,
        np.int64,
        np.float64,
        np.uint8,
        np.uint8,
    ]
    out = [np.zeros(512, t) for t in types]
    back = np.zeros(1024, np.float32)
    kinds = "*fp32 *fp16 *bf16 *i8 *u8 *i32 *i64 *fp64 *fp8e5 *fp8e4b15 *fp32"
    build("conversions", kinds, BLOCK=512)((1,), x, *out, back)
    short = x.astype(np.int32)
    exact = [x.astype(np.float16), x.astype(BF16), short.astype(np.int8), short.astype(np.uint8)]
    exact += [short, x.astype(np.int64), x.astype(np.float64) * 3]
    exact += [x.astype(ml_dtypes.float8_e5m2).view(np.uint8)]
    for got, wanted in zip(out, exact, strict=False):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("kind", HALVES)
def test_arithmetic_of_halves(build: Build, kind: str) -> None:
    dtype = HALVES[kind]
    x, y = normal(512).astype(dtype), normal(512, seed=1).astype(dtype)
    out = np.zeros((8, 512), dtype)
    build("half_maths", f"*{kind} *{kind} *{kind}", dt=0, BLOCK=512)((1,), x, y, out)
    a, b = x.astype(np.float32), y.astype(np.float32)
    exact = [a + b, a * b, a - b, np.where(a > b, a, -b), a + b, a / b, a * b + a, np.abs(a)]
    np.testing.assert_array_equal(out, np.stack(exact).astype(dtype))


def test_sorting_and_counting(build: Build) -> None:
    x = whole(1024, -10000, 10000).reshape(4, 256)
    out, flipped, counts = np.zeros_like(x), np.zeros_like(x), np.zeros(64, np.int32)
    build("sorting", "*i32 *i32 *i32 *i32", R=4, BLOCK=256)((1,), x, out, flipped, counts)
    np.testing.assert_array_equal(out, np.sort(x, 1))
    np.testing.assert_array_equal(flipped, x[:, ::-1])
    np.testing.assert_array_equal(counts, np.bincount(x[0] & 63, minlength=64))


def philox(seed: int, counter: int) -> int:
    """Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox4x32-10."""
    c, k = [counter, 0, 0, 0], [seed, 0]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b % 2**32, (a >> 32) ^ c[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c[0]


def test_random_numbers(build: Build) -> None:
    x, out = np.full(1024, 100, np.float32), np.zeros(1024, np.float32)
    build("dropout", "*fp32 *fp32 i32", BLOCK=256)((4,), x, out, 42)
    bits = np.array([philox(42, n) for n in range(1024)], np.uint32).view(np.int32).astype(np.int64)
    uniform = np.where(bits < 0, -bits - 1, bits) * 4.6566127342e-10
    np.testing.assert_array_equal(out > 50, uniform > 0.25)


def test_inline_assembly_with_a_scope_of_its_own(build: Build) -> None:
    x = np.random.default_rng(0).integers(0, 256, 1024).astype(np.uint8)
    out = np.zeros((2, 1024), np.uint8)
    build("packed", "*u8 *u8 i32", BLOCK=1024)((1,), x, out, 1)
    np.testing.assert_array_equal(out, [x & 15, x >> 4])


def test_a_persistent_pipelined_loop_with_cache_hints(build: Build) -> None:
    x = normal(37, 500)
    out = np.zeros_like(x)
    build("persistent", "*fp32 *fp32 i32 i32", BLOCK=512)((4,), x, out, 37, 500)
    np.testing.assert_array_equal(out, x * 2 + x[0])
