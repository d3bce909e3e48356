"""Scales of quantised tensors, where a model fixes them: numbers that codes can be worth."""

import numpy as np

from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.value import Value

SHOWN = 3


def check_scale(node: Call, name: str, scale: Value, *, positive: bool = False) -> None:
    """Refuse what nothing can be rounded to: E0310 for 0, NaN and infinities.

    ``positive``: also for negative ones, where values are rounded. Codes may be worth negative
    numbers: so do formats of weights that use all of a code's range.
    """
    if scale.array is None or not scale.dtype.is_float:
        return
    values = scale.array.astype(np.float64).reshape(-1)
    wrong = ~np.isfinite(values) | (values == 0) | (positive & (values < 0))
    if wrong.any():
        (places,) = np.nonzero(wrong)
        shown = ", ".join(f"{values[i]:g} at {i}" for i in places[:SHOWN])
        node.invalid(
            f"'{name}' is not finite and {'above' if positive else 'other than'} 0",
            ("values", f"{len(places)} of {values.size}: {shown}"),
            fix="quantise the model again; what was always 0 in calibration takes the scale 1",
        )
