"""Layers in 16-bit floats: factors are rounded to nearest even, products exact, sums in f32."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapeout.ir.dtypes import DType, bf16, f32
from tapeout.ir.errors import CompileError
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.types import DTypeAttr
from tapeout.passes.quantize.checks import finite_matrix
from tapeout.passes.quantize.layers import Layer
from tapeout.passes.rewrite import Edit

Array = np.ndarray[Any, Any]


def narrow(layer: Layer, to: DType, edit: Edit) -> None:
    """Round the factors of a layer to ``to``; its result and its bias stay f32.

    The activation is rounded by an operator of its own. That joins whatever makes the activation,
    so it crosses memory in 16 bits. Errors: E0701 for weights that are not finite, E0702 for those
    that are not after rounding.
    """
    weight = edit.array(layer.weight)
    assert weight is not None, "a layer's weight is fixed"
    finite_matrix(layer.as_matrix(weight), layer.name)
    a = edit.add(ConvertOp, layer.input, to=to)
    b = edit.constant(rounded(weight, to, layer.name), layer.name)
    layer.op.operands[0], layer.op.operands[1] = a, b
    layer.op.properties["to"] = DTypeAttr(f32)


def rounded(weight: Array, to: DType, name: str) -> Array:
    """``weight`` in ``to``. Errors: E0702 where a finite number becomes infinite."""
    with np.errstate(over="ignore"):
        made = weight.astype(to.numpy)
    if np.isfinite(made).all():
        return made
    wider = "take bf16, which has the range of f32, or " if to is not bf16 else ""
    raise CompileError(
        "E0702",
        f"a weight is too large for {to}",
        [("weight", name), ("greatest", f"{np.abs(weight).max():.5g}")],
        f"{wider}leave the layer in f32 with the format none",
    )
