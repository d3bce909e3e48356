"""Print how long interpreting some kernels takes: least of three, with and without race checks.

Usage: python tests/targets/gpu/ptx/speed.py
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl  # pyright: ignore[reportMissingTypeStubs]

sys.path.insert(0, str(Path(__file__).parent))
from conftest import compiled

BF16 = np.dtype(ml_dtypes.bfloat16)
Run = Callable[[bool], None]


def drawn(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(BF16)


def product(n: int, tile: int) -> Run:
    constants = {"BM": tile, "BN": tile, "BK": 32, "ACC": tl.float32, "PREC": "ieee"}
    types = "*bf16 *bf16 *bf16 i32 i32 i32 i32 i32 i32"
    kernel = compiled("matmul", types, "M N K sam sbk scm", 4, 3, tuple(constants.items()))
    a, b, c = drawn(n, n), drawn(n, n), np.zeros((n, n), BF16)
    return lambda races: kernel((n // tile, n // tile), a, b, c, *[n] * 6, races=races)


def attention(length: int, heads: int) -> Run:
    constants = {"D": 64, "BM": 64, "BN": 64, "CAUSAL": True}
    types = "*bf16 *bf16 *bf16 *bf16 i32 fp32"
    kernel = compiled("attention", types, "", 4, 3, tuple(constants.items()))
    q, k, v = (drawn(heads, length, 64) for _ in range(3))
    out, grid = np.zeros_like(q), (-(-length // 64), heads)
    return lambda races: kernel(grid, q, k, v, out, length, 0.125, races=races)


def seconds(run: Run, races: bool) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        run(races)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    cases = {
        "bf16 product 128, tiles of 64": product(128, 64),
        "bf16 product 128, one tile": product(128, 128),
        "bf16 product 512, tiles of 64": product(512, 64),
        "causal attention, 1 head of 128": attention(128, 1),
        "causal attention, 8 heads of 512": attention(512, 8),
    }
    for name, run in cases.items():
        run(True)
        print(f"{name:<34} {seconds(run, True):.3f} s   {seconds(run, False):.3f} s without races")


if __name__ == "__main__":
    main()
