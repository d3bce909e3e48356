"""Conversions between types (``cvt``). Source: PTX ISA 8.8, 9.7.9.21."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.targets.gpu.ptx.faults import unknown
from tapeout.targets.gpu.ptx.formats import FORMATS, Format, pair
from tapeout.targets.gpu.ptx.program import Decoder, Program, Step
from tapeout.targets.gpu.ptx.rounding import (
    flush,
    to_bf16,
    to_f16,
    to_f32,
    to_tf32,
)
from tapeout.targets.gpu.ptx.text import Instruction

Array = npt.NDArray[Any]
Convert = Callable[[Array], Array]

WHOLE: dict[str, Convert] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def float_to_int(result: Format, source: Format, mode: str) -> Convert:
    """Return the conversion to the nearest number of the range; NaN gives 0.

    Of 64 bits, to or from, NaN gives the top bit alone.
    """
    dtype = np.dtype(f"{'i' if result.kind == 's' else 'u'}{result.bits // 8}")
    bounds = np.iinfo(dtype)
    nan = 1 << (result.bits - 1) if result.bits == 64 or source.name == "f64" else 0
    lost = np.array([nan], np.uint64).astype(dtype)

    def convert(value: Array) -> Array:
        whole = WHOLE[mode](value.astype(np.float64))
        low, high = whole <= float(bounds.min), whole >= float(bounds.max)
        inside = np.where(low | high | np.isnan(whole), 0.0, whole).astype(dtype)
        out = np.where(low, bounds.min, np.where(high, bounds.max, inside)).astype(dtype)
        return np.where(np.isnan(whole), lost, out)

    return convert


def int_to_int(result: Format, source: Format, saturate: bool) -> Convert:
    """Return the conversion that drops upper bits, or keeps to the range (``.sat``)."""
    dtype = np.dtype(f"{'i' if result.kind == 's' else 'u'}{result.bits // 8}")
    if not saturate:
        return lambda a: a.astype(dtype)
    to = np.iinfo(dtype)
    sign = "i" if source.kind == "s" else "u"
    of = np.iinfo(np.dtype(f"{sign}{source.bits // 8}"))
    low, high = max(to.min, of.min), min(to.max, of.max)
    return lambda a: np.clip(a, low, high).astype(dtype)


def int_to_float(result: Format, mode: str) -> Convert:
    """Return the conversion, rounded once."""
    if result.name == "f64":
        return lambda a: a.astype(np.float64)
    if mode != "rn":
        return lambda a: to_f32(a.astype(np.float64), mode)
    if result.kind == "half":
        # 64-bit numbers beyond binary64 are far beyond the range of a half, or of its precision.
        return lambda a: a.astype(np.float64)
    return lambda a: a.astype(np.float32)


def float_to_float(result: Format, source: Format, mode: str, i: Instruction) -> Convert:
    """Return the conversion between float types, or rounding to a whole number."""
    if mode in WHOLE:
        return WHOLE[mode]
    match result.name:
        case "tf32":
            return lambda a: to_tf32(a, mode)
        case "f64":
            return lambda a: a.astype(np.float64)
        case "f32" if source.name == "f64":
            return lambda a: to_f32(a, mode)
        case _:
            return lambda a: a


def float_encoder(result: Format, mode: str, i: Instruction) -> Format:
    """Return ``result`` with ``mode`` as the rounding of its encoding."""
    if mode in ("rn", *WHOLE) or result.kind != "half":
        return result
    if mode != "rz":
        raise unknown(i, f"the rounding '{mode}' to {result.name}")
    one = FORMATS[result.name.removesuffix("x2")]
    narrow = to_f16 if one.name == "f16" else to_bf16
    rounding = replace(one, encode=partial(narrow, mode="rz"))
    return pair(rounding) if result.name.endswith("x2") else rounding


def cvt(program: Program, i: Instruction) -> Step:
    """Decode a conversion; the two types stand last."""
    *rest, to, of = i.modifiers
    if to not in FORMATS or of not in FORMATS:
        raise unknown(i, f"the conversion from '{of}' to '{to}'")
    result, source = FORMATS[to], FORMATS[of]
    known = {"sat", "ftz", "relu", "satfinite", "rna", "rn", "rz", "rm", "rp", *WHOLE}
    if set(rest) - known:
        raise unknown(i, f"'{'.'.join(rest)}'")
    mode = next((m for m in rest if m[0] == "r" and m != "relu"), "rn")
    floats = source.kind in ("f", "half"), result.kind in ("f", "half")
    match floats:
        case (True, True):
            convert = float_to_float(result, source, mode, i)
            result = float_encoder(result, mode, i)
        case (True, False):
            convert = float_to_int(result, source, mode)
        case (False, True):
            convert = int_to_float(result, mode)
        case _:
            convert = int_to_int(result, source, "sat" in rest)
    return finish(program, i, convert, result, source)


def finish(
    program: Program, i: Instruction, convert: Convert, result: Format, source: Format
) -> Step:
    """Decode the rest that any conversion may have: flushes, clamps, and two sources."""
    before = flush if "ftz" in i.modifiers and source.name == "f32" else None
    after = flush if "ftz" in i.modifiers and result.name == "f32" else None
    to_float = result.kind in ("f", "half")

    def one(a: Array) -> Array:
        out = convert(before(a) if before else a)
        if "relu" in i.modifiers:
            out = np.where(np.isnan(out), out, np.maximum(out, 0))
        if "sat" in i.modifiers and to_float:
            out = np.clip(np.nan_to_num(out), 0, 1)
        return after(out) if after else out

    if result.name.endswith("x2"):
        # The first source goes into the upper half.
        return program.elementwise(i, lambda a, b: stacked(one(b), one(a)), result, [source] * 2)
    return program.elementwise(i, one, result, [source])


def stacked(low: Array, high: Array) -> Array:
    """Return ``[2, lanes]`` of two halves, either of which may be the same in every lane."""
    return np.stack(np.broadcast_arrays(low, high))


DECODERS: dict[str, Decoder] = {"cvt": cvt}
