"""Triton's tensor-core kernels, compiled for sm_80, against numpy: products and attention."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import triton.language as tl  # pyright: ignore[reportMissingTypeStubs]

Array = np.ndarray[Any, Any]
Build = Callable[..., Any]

BF16 = np.dtype(ml_dtypes.bfloat16)
TYPES = {
    "bf16": BF16,
    "fp16": np.dtype(np.float16),
    "fp32": np.dtype(np.float32),
    "fp64": np.dtype(np.float64),
    "i8": np.dtype(np.int8),
    "i32": np.dtype(np.int32),
}
# Operands, result, accumulator, input precision, and the error that the types allow.
PRODUCTS = [
    ("bf16", "bf16", tl.float32, "ieee", 1e-2),
    ("fp16", "fp16", tl.float32, "ieee", 2e-3),
    ("fp16", "fp16", tl.float16, "ieee", 5e-2),
    ("fp32", "fp32", tl.float32, "tf32", 2e-2),
    ("fp32", "fp32", tl.float32, "tf32x3", 1e-5),
    ("fp32", "fp32", tl.float32, "ieee", 1e-5),
    ("fp64", "fp64", tl.float64, "ieee", 1e-12),
    ("i8", "i32", tl.int32, "ieee", 0),
]


def drawn(shape: tuple[int, ...], dtype: Any, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize(("operand", "result", "acc", "precision", "error"), PRODUCTS)
def test_products_of_ragged_sizes(
    build: Build, operand: str, result: str, acc: Any, precision: str, error: float, stages: int
) -> None:
    types = f"*{operand} *{operand} *{result} i32 i32 i32 i32 i32 i32"
    kernel = build(
        "matmul",
        types,
        "K sam sbk scm",
        stages=stages,
        BM=32,
        BN=32,
        BK=32,
        ACC=acc,
        PREC=precision,
    )
    M, N, K = 45, 48, 80
    a, b = drawn((M, K), TYPES[operand], 0), drawn((K, N), TYPES[operand], 1)
    c = np.zeros((M, N), TYPES[result])
    kernel((2, 2), a, b, c, M, N, K, K, N, N)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(c.astype(np.float64), exact, rtol=error, atol=5 * error)


@pytest.mark.parametrize(("M", "N", "K"), [(1, 1, 1), (5, 37, 3), (64, 33, 65)])
def test_a_product_that_assumes_nothing_of_its_sizes(build: Build, M: int, N: int, K: int) -> None:
    types = "*bf16 *bf16 *fp32 i32 i32 i32 i32 i32 i32"
    kernel = build("matmul", types, BM=32, BN=32, BK=32, ACC=tl.float32, PREC="ieee")
    a, b, c = drawn((M, K), BF16, 0), drawn((K, N), BF16, 1), np.zeros((M, N), np.float32)
    kernel((-(-M // 32), -(-N // 32)), a, b, c, M, N, K, K, N, N)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.astype(np.float64), atol=1e-4)


def test_eight_warps(build: Build) -> None:
    types = "*bf16 *bf16 *bf16 i32 i32 i32 i32 i32 i32"
    known = "M N K sam sbk scm"
    kernel = build(
        "matmul", types, known, warps=8, BM=128, BN=128, BK=32, ACC=tl.float32, PREC="ieee"
    )
    a, b, c = drawn((128, 128), BF16, 0), drawn((128, 128), BF16, 1), np.zeros((128, 128), BF16)
    kernel((1, 1), a, b, c, *[128] * 6)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(c.astype(np.float64), exact, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("operand", ["bf16", "fp16"])
def test_flash_attention(build: Build, operand: str, causal: bool) -> None:
    S, H, D = 150, 2, 64
    types = f"*{operand} *{operand} *{operand} *{operand} i32 fp32"
    kernel = build("attention", types, D=D, BM=64, BN=64, CAUSAL=causal)
    q, k, v = (drawn((H, S, D), TYPES[operand], seed) for seed in range(3))
    out = np.zeros_like(q)
    kernel((3, H), q, k, v, out, S, D**-0.5)
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) * D**-0.5
    if causal:
        scores = np.where(np.tril(np.ones((S, S), np.bool_)), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    exact = p / p.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(out.astype(np.float64), exact, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("stages", [1, 3])
def test_a_product_with_weights_of_four_bits(build: Build, stages: int) -> None:
    M, N, K = 13, 90, 256
    types = "*bf16 *u8 *fp32 *fp32 i32 i32 i32"
    kernel = build("dequant_matmul", types, stages=stages, BM=16, BN=64, BK=64)
    a, q = drawn((M, K), BF16, 0), drawn((K // 2, N), np.dtype(np.uint8), 1)
    s = np.random.default_rng(2).random((K // 64, N)).astype(np.float32)
    c = np.zeros((M, N), np.float32)
    kernel((1, 2), a, q, s, c, M, N, K)
    nibbles = np.stack([q & 15, q >> 4], 1).reshape(K, N).astype(np.float64) - 8
    exact = a.astype(np.float64) @ (nibbles * np.repeat(s, 64, 0))
    np.testing.assert_allclose(c, exact, rtol=1e-4, atol=1e-3)
