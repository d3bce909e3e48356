"""Element types and contents of torch tensors, as the IR carries them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from tapeout.ir.dtypes import (
    DType,
    bf16,
    boolean,
    c64,
    c128,
    f8e4m3fn,
    f8e5m2,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)
from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]

_TYPES: dict[torch.dtype, DType] = {
    torch.float64: f64,
    torch.float32: f32,
    torch.float16: f16,
    torch.bfloat16: bf16,
    torch.float8_e4m3fn: f8e4m3fn,
    torch.float8_e5m2: f8e5m2,
    torch.int64: i64,
    torch.int32: i32,
    torch.int16: i16,
    torch.int8: i8,
    torch.uint64: u64,
    torch.uint32: u32,
    torch.uint16: u16,
    torch.uint8: u8,
    torch.bool: boolean,
    torch.complex64: c64,
    torch.complex128: c128,
}
_SAME_BITS = {ml_dtypes.bfloat16: torch.uint16, ml_dtypes.float8_e4m3fn: torch.uint8}
_SAME_BITS[ml_dtypes.float8_e5m2] = torch.uint8


def element_type(dtype: torch.dtype) -> DType:
    """The IR's element type; E0402 for one that it does not carry."""
    if dtype not in _TYPES:
        raise CompileError("E0402", f"element type {dtype} has no support", (), "convert it first")
    return _TYPES[dtype]


def array_of(tensor: torch.Tensor) -> Array:
    """The contents of a tensor, without a copy where it lies densely in memory."""
    dtype = element_type(tensor.dtype).numpy
    plain = tensor.detach().cpu().contiguous()
    bits = _SAME_BITS.get(dtype.type)
    return plain.numpy() if bits is None else plain.view(bits).numpy().view(dtype)
