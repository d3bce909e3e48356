"""Quantise the weights and activations of layers, each in the format that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32, i32, u8
from tapeout.ir.errors import CompileError, together
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.ir.ops.reduce import ReduceOp
from tapeout.ir.types import spec
from tapeout.passes.calibrate.codes import Codes, Scaling
from tapeout.passes.calibrate.observe import observe
from tapeout.passes.calibrate.observers import OBSERVERS, scaling
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.quantize.nearest import round_to_nearest
from tapeout.passes.quantize.recipe import parse_quantize
from tapeout.passes.quantize.residuals import Residual, residuals
from tapeout.passes.quantize.weights import WeightFormat
from tapeout.passes.rewrite import Edit

Array = np.ndarray[Any, Any]
Samples = Iterable[Mapping[str, Array]]

BYTES = Codes(8, signed=False, symmetric=False)
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class QuantizeLayers(Pass):
    """Give layers the formats of a recipe: ``nn.dequantize`` of codes on both sides of a product.

    Saves what :mod:`integer_products` then can: bytes, and time on integer units. ``format`` is
    what ``--quantize`` takes. ``samples`` are inputs by name, needed where activations have
    static scales. A convolution has none per row, so ``int8-dynamic`` leaves it as it is.
    """

    name = "quantize-layers"
    format: str = "int8-dynamic"
    samples: Samples | None = None

    def apply(self, module: Module) -> None:
        """Quantise.

        Errors: E0110 without samples for a static format, E0404 for a format without kernels,
        E0701 and E0702 of weights, E0704 where samples make values that are not finite, E0705 for
        a model without layers.
        """
        recipe, found = parse_quantize(self.format), list(layers(module))
        if not found:
            fix = "leave --quantize out"
            raise CompileError("E0705", "the model has no layers to quantise", (), fix)
        recipe.refuse_unused(layer.name for layer in found)
        chosen = [(layer, f) for layer in found if (f := recipe.of(layer.name)) is not None]
        _refuse({str(f): f for _, f in chosen}.values(), self.samples)
        static = [pair for pair in chosen if pair[1].activations == "static"]
        sums = list(residuals(module, [pair[0].op for pair in static]))
        scalings = self._static(module, static, sums)
        edit = Edit(module)
        for layer, format in chosen:
            if format.activations == "dynamic" and _is_conv(layer):
                continue
            edit.at(layer.op)
            if format.activations == "static":
                a = _static(layer.input, scalings[layer.input], edit)
            else:
                a = _dynamic(layer.input, edit)
            _replace(layer, a, _weight(layer, format, module, edit))
        for each in sums:
            edit.at(each.op)
            each.op.operands[each.place] = _static(each.value, scalings[each.value], edit)

    def _static(
        self, module: Module, chosen: list[tuple[Layer, LayerFormat]], sums: Sequence[Residual]
    ) -> Mapping[SSAValue, Scaling]:
        """The scale and zero point of every activation that has static ones, from the samples."""
        if not chosen or self.samples is None:
            return {}
        observers = {each.value: "mse" for each in sums}
        observers |= {layer.input: f.observer or "mse" for layer, f in chosen}
        seen = observe(module, self.samples, list(observers))
        broken = [v for v in observers if seen[v].non_finite]
        if broken:
            names = [layer.name for layer, _ in chosen if layer.input in broken]
            raise CompileError(
                "E0704",
                "calibration gives values that are not finite",
                [("layers", ", ".join(names) or "a residual sum")],
                "look for overflow in the model, or give these layers the format none",
            )
        return {v: scaling(seen[v], BYTES, OBSERVERS[name]) for v, name in observers.items()}


def _refuse(formats: Iterable[LayerFormat], samples: Samples | None) -> None:
    errors: list[CompileError] = []
    for f in formats:
        facts = [("format", f)]
        if f.weight != WeightFormat(8) or f.activations is None:
            fix = "take int8, int8-dynamic or none"
            errors.append(
                CompileError("E0404", "no target has kernels for this format", facts, fix)
            )
        elif f.method == "gptq":
            fix = "take search, or nearest"
            what = "weights of 8 bits are not rounded by gptq yet"
            errors.append(CompileError("E0404", what, facts, fix))
        elif f.activations == "static" and samples is None:
            fix = "give some with --calibrate, or take int8-dynamic, which needs none"
            errors.append(CompileError("E0110", "this format needs calibration data", facts, fix))
    if errors:
        raise together(errors, "the model cannot be quantised like this")


def _weight(layer: Layer, format: LayerFormat, module: Module, edit: Edit) -> SSAValue:
    """The weight as signed bytes with a scale per output."""
    array = module.value_of(layer.weight)
    assert array is not None, "a layer's weight is fixed"
    assert format.weight is not None, "this format has integers for weights"
    made = round_to_nearest(
        layer.as_matrix(array), format.weight, name=layer.name, search=format.method == "search"
    )
    codes = edit.constant(layer.as_weight(made.codes.astype(np.int8)), layer.name)
    scales = edit.constant(layer.per_output(made.scales.astype(np.float32)))
    return edit.add(DequantizeOp, codes, scales, None, to=f32)


def _static(x: SSAValue, known: Scaling, edit: Edit) -> SSAValue:
    """``x`` rounded to bytes of a fixed scale and zero point.

    The numbers are weights and no literals, so that equal layers stay one kernel.
    """
    scale, zero = known.scale.reshape(()), known.zero_point.reshape(()).astype(np.uint8)
    shift = edit.weight(zero.astype(np.float32)) if zero else None
    codes = _codes(x, edit.weight(1 / scale), shift, edit)
    return edit.add(DequantizeOp, codes, edit.weight(scale), edit.constant(zero), to=f32)


def _dynamic(x: SSAValue, edit: Edit) -> SSAValue:
    """``x`` rounded to bytes with a scale and a zero point for each row, from its extremes.

    The range is widened to hold 0, which is exact. As ONNX's DynamicQuantizeLinear, but by row.
    """

    def number(value: float) -> SSAValue:
        return edit.constant(np.array(value, np.float32))

    def extreme(fn: str) -> SSAValue:
        axes = (spec(x).rank - 1,)
        return edit.map(fn, edit.add(ReduceOp, x, fn=fn, axes=axes, keepdims=True), number(0))

    low, high = extreme("min"), extreme("max")
    reach = edit.map("mul", edit.map("sub", high, low), number(1 / BYTES.high))
    scale = edit.map("max", reach, number(SMALLEST))  # a row of zeros has a scale too
    inverse = edit.map("div", number(1), scale)
    zero = edit.map("round", edit.map("neg", edit.map("mul", low, inverse)))
    codes = _codes(x, inverse, zero, edit)
    return edit.add(DequantizeOp, codes, scale, edit.add(ConvertOp, zero, to=i32), to=f32)


def _codes(x: SSAValue, inverse: SSAValue, zero: SSAValue | None, edit: Edit) -> SSAValue:
    """``saturate(round(x / scale) + zero)``."""
    rounded = edit.map("round", edit.map("mul", x, inverse))
    shifted = rounded if zero is None else edit.map("add", rounded, zero)
    return edit.add(ConvertOp, shifted, to=u8, saturate=True)


def _is_conv(layer: Layer) -> bool:
    return isinstance(layer.op, ConvOp)


def _replace(layer: Layer, a: SSAValue, b: SSAValue) -> None:
    op = layer.op
    op.operands[0], op.operands[1] = a, b
