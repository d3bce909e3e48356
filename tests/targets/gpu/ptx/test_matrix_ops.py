"""Tensor-core products of every shape and type, on fragments laid out as the PTX ISA draws them."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

Array = np.ndarray[Any, Any]
BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, S8, U8 = (np.dtype(t) for t in (np.float16, np.float32, np.int8, np.uint8))


def fragment_a(matrix: Array) -> Array:
    """PTX ISA 9.7.14.5: ``[32, elements]``: rows g and g + 8, then the next columns."""
    per = max(4 // matrix.itemsize, 1)
    m, k = matrix.shape
    rows = list[list[Any]]()
    for lane in range(32):
        g, t = divmod(lane, 4)
        rows.append(
            [
                matrix[g + down, right + t * per + e]
                for right in range(0, k, 4 * per)
                for down in range(0, m, 8)
                for e in range(per)
            ]
        )
    return np.array(rows, matrix.dtype)


def fragment_b(matrix: Array) -> Array:
    per = max(4 // matrix.itemsize, 1)
    rows = list[list[Any]]()
    for lane in range(32):
        g, t = divmod(lane, 4)
        rows.append(
            [
                matrix[down + t * per + e, g]
                for down in range(0, matrix.shape[0], 4 * per)
                for e in range(per)
            ]
        )
    return np.array(rows, matrix.dtype)


def fragment_c(matrix: Array) -> Array:
    rows = list[list[Any]]()
    for lane in range(32):
        g, t = divmod(lane, 4)
        rows.append(
            [matrix[g + d, 2 * t + e] for d in range(0, matrix.shape[0], 8) for e in (0, 1)]
        )
    return np.array(rows, matrix.dtype)


def drawn(shape: tuple[int, int], dtype: Any, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -1000), min(info.max, 1000), shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


CASES = [
    ("m16n8k16.row.col.f32.bf16.bf16.f32", BF16, BF16, F32),
    ("m16n8k8.row.col.f32.bf16.bf16.f32", BF16, BF16, F32),
    ("m16n8k16.row.col.f32.f16.f16.f32", F16, F16, F32),
    ("m16n8k16.row.col.f16.f16.f16.f16", F16, F16, F16),
    ("m16n8k8.row.col.f32.f16.f16.f32", F16, F16, F32),
    ("m16n8k8.row.col.f32.tf32.tf32.f32", F32, F32, F32),
    ("m16n8k4.row.col.f32.tf32.tf32.f32", F32, F32, F32),
    ("m16n8k32.row.col.satfinite.s32.s8.s8.s32", S8, S8, np.dtype(np.int32)),
    ("m16n8k16.row.col.s32.u8.s8.s32", U8, S8, np.dtype(np.int32)),
    ("m8n8k4.row.col.f64.f64.f64.f64", *[np.dtype(np.float64)] * 3),
]


@pytest.mark.parametrize(("opcode", "left", "right", "result"), CASES)
def test_products(
    body: Callable[..., Any], opcode: str, left: Any, right: Any, result: Any
) -> None:
    m, rest = opcode.split(".")[0][1:].split("n")
    n, k = rest.split("k")
    a, b = drawn((int(m), int(k)), left, 0), drawn((int(k), int(n)), right, 1)
    if "tf32" in opcode:
        a, b = ((v.view(np.uint32) & 0xFFFF_E000).view(F32) for v in (a, b))
    c = drawn((int(m), int(n)), result, 2)
    fragments = [fragment_a(a), fragment_b(b), fragment_c(c)]
    bits = 64 if result == np.float64 else 32
    out = np.zeros_like(fragments[2])
    code, names, regs, at = "", list[str](), list[str](), 0
    for p, fragment in enumerate([*fragments, out]):
        stride = fragment.shape[1] * fragment.itemsize
        count = stride * 8 // bits
        prefix = "%d" if bits == 64 else "%r"
        regs = [f"{prefix}{2 + at + j}" for j in range(count)]
        at += count
        names.append("{" + ", ".join(regs) + "}")
        code += f"mad.wide.u32 %a{p}, %t, {stride}, %a{p};"
        loads = [f"ld.global.b{bits} {r}, [%a{p}+{bits // 8 * j}];" for j, r in enumerate(regs)]
        code += "".join(loads if p < 3 else [])
    stores = [f"st.global.b{bits} [%a3+{bits // 8 * j}], {r};" for j, r in enumerate(regs)]
    code += f"mma.sync.aligned.{opcode} {names[3]}, {names[0]}, {names[1]}, {names[2]};"
    body(code + "".join(stores), pointers=4)((1,), *fragments, out)
    wanted = a.astype(np.float64) @ b.astype(np.float64) + c.astype(np.float64)
    np.testing.assert_array_equal(out, fragment_c(wanted.astype(result)))
