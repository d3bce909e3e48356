"""Element types: their codes in the C ABI, and numpy's types for them.

numpy has no bfloat16, no 8-bit floats, and nothing narrower than a byte. These are ``ml_dtypes``'
when that can be imported, else ``uint16`` and ``uint8`` holding the bits; both are accepted as
inputs.
"""

from functools import cache

import numpy as np

from tapeout.runtime.manifest import DTYPES

CODES = {name: code for code, name in enumerate(DTYPES, start=1)}

NATIVE = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "f16": np.dtype(np.float16),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}
FOREIGN = {
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
    "f8e8m0": "float8_e8m0fnu",
    "i4": "int4",
    "u4": "uint4",
    "i2": "int2",
    "u2": "uint2",
    "f4e2m1": "float4_e2m1fn",
}


@cache
def numpy_dtypes(name: str) -> tuple[np.dtype[np.generic], ...]:
    """Return numpy's types for ``name``: the one that outputs get, then others that inputs may."""
    if name in NATIVE:
        return (NATIVE[name],)
    raw = np.dtype(np.uint16 if name == "bf16" else np.uint8)
    try:
        import ml_dtypes
    except ImportError:
        return (raw,)
    return (np.dtype(getattr(ml_dtypes, FOREIGN[name])), raw)
