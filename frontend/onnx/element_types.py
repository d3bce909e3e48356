"""ONNX's element types: the numpy type, the bits of one element, and the field of typed data."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from tapeout.ir.errors import CompileError


@dataclass(frozen=True)
class ElementType:
    """``bits`` are those of one element in raw data; ``field`` holds elements that are not raw.

    The storage type is what ``field`` holds: a 16-bit float is an ``int32`` of its bits.
    """

    name: str
    dtype: np.dtype[Any]
    bits: int
    field: str


def _element(name: str, dtype: object, field: str, bits: int = 0) -> ElementType:
    kind: np.dtype[Any] = np.dtype(dtype)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    return ElementType(name, kind, bits or 8 * kind.itemsize, field)


STRING = _element("STRING", object, "string_data")

_TYPES = (
    _element("FLOAT", np.float32, "float_data"),
    _element("UINT8", np.uint8, "int32_data"),
    _element("INT8", np.int8, "int32_data"),
    _element("UINT16", np.uint16, "int32_data"),
    _element("INT16", np.int16, "int32_data"),
    _element("INT32", np.int32, "int32_data"),
    _element("INT64", np.int64, "int64_data"),
    STRING,
    _element("BOOL", np.bool_, "int32_data"),
    _element("FLOAT16", np.float16, "int32_data"),
    _element("DOUBLE", np.float64, "double_data"),
    _element("UINT32", np.uint32, "uint64_data"),
    _element("UINT64", np.uint64, "uint64_data"),
    _element("COMPLEX64", np.complex64, "float_data"),
    _element("COMPLEX128", np.complex128, "double_data"),
    _element("BFLOAT16", ml_dtypes.bfloat16, "int32_data"),
    _element("FLOAT8E4M3FN", ml_dtypes.float8_e4m3fn, "int32_data"),
    _element("FLOAT8E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, "int32_data"),
    _element("FLOAT8E5M2", ml_dtypes.float8_e5m2, "int32_data"),
    _element("FLOAT8E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, "int32_data"),
    _element("FLOAT8E8M0", ml_dtypes.float8_e8m0fnu, "int32_data"),
    _element("UINT4", ml_dtypes.uint4, "int32_data", 4),
    _element("INT4", ml_dtypes.int4, "int32_data", 4),
    _element("FLOAT4E2M1", ml_dtypes.float4_e2m1fn, "int32_data", 4),
    _element("UINT2", ml_dtypes.uint2, "int32_data", 2),
    _element("INT2", ml_dtypes.int2, "int32_data", 2),
    _element("FLOAT6E2M3", ml_dtypes.float6_e2m3fn, "int32_data", 6),
    _element("FLOAT6E3M2", ml_dtypes.float6_e3m2fn, "int32_data", 6),
)

_BY_CODE = {TensorProto.DataType.Value(each.name): each for each in _TYPES}
_CODES = {each.dtype: code for code, each in _BY_CODE.items()}


def element_type(code: int, owner: str) -> ElementType:
    """Return the element type with ONNX's number ``code``; E0306 naming ``owner`` when unknown."""
    if code not in _BY_CODE:
        raise CompileError(
            "E0306",
            f"{owner} has an element type that ONNX does not define",
            (("element type", code), ("known", f"1 to {max(_BY_CODE)}")),
            "export the model again",
        )
    return _BY_CODE[code]


def element_code(dtype: np.dtype[Any]) -> int:
    """Return ONNX's number for a numpy type that came out of :func:`element_type`."""
    return _CODES[dtype]
