"""Codes of a fixed weight in the fewest bits that hold them all, without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Packed:
    """``(codes * step - zero) * scale``: u8 ``codes [N, K]`` below ``2**bits``.

    ``scale`` (f32, f16 or bf16) is ``[N, G]`` or ``[N, 1]``, and so is ``zero`` (u8); where it is
    None the zero point is ``point``. ``group`` neighbours along ``k`` share a scale; 0 for all.
    """

    codes: Array
    scale: Array
    zero: Array | None
    group: int
    bits: int
    step: int
    point: int


def packed(codes: Array, scale: Array, zero: Array | None, group: int) -> Packed | None:
    """Codes ``[N, K]`` of up to 8 bits, with scales and zero points as ``nn.dequantize`` has them.

    None for codes or zero points that need more than 8 bits, and for scales that vary along ``k``
    otherwise than by groups.
    """
    whole, n = codes.astype(np.int64), codes.shape[0]
    scales, zeros = _per_output(scale, n, group), None
    if zero is not None and np.unique(zero).size > 1:
        zeros = _per_output(zero.astype(np.int64), n, group)
        if zeros is None:
            return None
    if scales is None or not codes.size:
        return None
    shared = int(zero.reshape(-1)[0]) if zero is not None and zeros is None else 0
    low, high = int(whole.min()), int(whole.max())
    if zeros is None and (low, high) == (-1, 1) and not (whole == 0).any() and not shared:
        return Packed(((whole + 1) // 2).astype(np.uint8), scales, None, group, 1, 2, 1)
    lift = low if zeros is None else min(low, int(zeros.min()))
    bits = max(1, (high - lift).bit_length())
    if bits > 8 or (zeros is not None and int(zeros.max()) - lift > 255):
        return None
    lifted = (whole - lift).astype(np.uint8)
    points = None if zeros is None else (zeros - lift).astype(np.uint8)
    return Packed(lifted, scales, points, group, bits, 1, shared - lift)


def _per_output(values: Array, n: int, group: int) -> Array | None:
    """``[N, G]`` or ``[N, 1]`` of values that broadcast with ``[N, K]``, or with its groups."""
    shape = (1,) * (2 - values.ndim) + values.shape
    if not group and shape[1] != 1:
        return None
    return np.ascontiguousarray(np.broadcast_to(values.reshape(shape), (n, shape[1])))
