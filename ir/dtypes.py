"""Element types: name, width and the numpy type that carries their values in the evaluator."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import ml_dtypes
import numpy as np

Kind: TypeAlias = Literal["float", "int", "uint", "bool", "string", "complex"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type; ``bits`` is the width in memory, sub-byte types unpacked to a byte."""

    name: str
    kind: Kind
    bits: int
    numpy: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Bytes of one element in memory (sub-byte types travel one to a byte)."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        """Whether it is a binary floating-point type of any width."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer."""
        return self.kind in ("int", "uint")

    def __str__(self) -> str:
        return self.name


def _make(name: str, kind: Kind, bits: int, numpy: Any) -> DType:
    return DType(name, kind, bits, np.dtype(numpy))


f64 = _make("f64", "float", 64, np.float64)
f32 = _make("f32", "float", 32, np.float32)
f16 = _make("f16", "float", 16, np.float16)
bf16 = _make("bf16", "float", 16, ml_dtypes.bfloat16)
f8e4m3fn = _make("f8e4m3fn", "float", 8, ml_dtypes.float8_e4m3fn)
f8e4m3fnuz = _make("f8e4m3fnuz", "float", 8, ml_dtypes.float8_e4m3fnuz)
f8e5m2 = _make("f8e5m2", "float", 8, ml_dtypes.float8_e5m2)
f8e5m2fnuz = _make("f8e5m2fnuz", "float", 8, ml_dtypes.float8_e5m2fnuz)
f8e8m0 = _make("f8e8m0", "float", 8, ml_dtypes.float8_e8m0fnu)
f4e2m1 = _make("f4e2m1", "float", 4, ml_dtypes.float4_e2m1fn)
i64 = _make("i64", "int", 64, np.int64)
i32 = _make("i32", "int", 32, np.int32)
i16 = _make("i16", "int", 16, np.int16)
i8 = _make("i8", "int", 8, np.int8)
i4 = _make("i4", "int", 4, ml_dtypes.int4)
i2 = _make("i2", "int", 2, ml_dtypes.int2)
u64 = _make("u64", "uint", 64, np.uint64)
u32 = _make("u32", "uint", 32, np.uint32)
u16 = _make("u16", "uint", 16, np.uint16)
u8 = _make("u8", "uint", 8, np.uint8)
u4 = _make("u4", "uint", 4, ml_dtypes.uint4)
u2 = _make("u2", "uint", 2, ml_dtypes.uint2)
boolean = _make("bool", "bool", 8, np.bool_)
string = _make("str", "string", 64, np.object_)
c64 = _make("c64", "complex", 64, np.complex64)
c128 = _make("c128", "complex", 128, np.complex128)

DTYPES: dict[str, DType] = {
    t.name: t
    for t in (
        *(f64, f32, f16, bf16, f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f8e8m0, f4e2m1),
        *(i64, i32, i16, i8, i4, i2, u64, u32, u16, u8, u4, u2, boolean, string, c64, c128),
    )
}
_BY_NUMPY = {t.numpy: t for t in DTYPES.values()}


def dtype_of(array: np.ndarray[Any, Any]) -> DType:
    """The element type of a numpy array; KeyError names a numpy type we do not carry."""
    return _BY_NUMPY[array.dtype]
