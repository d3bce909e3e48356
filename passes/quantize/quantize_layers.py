"""Quantise the weights and activations of layers, each in the format that a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.errors import CompileError, together
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.passes.calibrate.observe import Observed, observe
from tapeout.passes.calibrate.observers import OBSERVERS, scaling
from tapeout.passes.calibrate.statistics import Statistics
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.activations import BYTES, dynamic, rounded, static
from tapeout.passes.quantize.choices import Choice, choices
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.gptq import gptq
from tapeout.passes.quantize.grouped_products import QUAD
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.quantize.narrow_floats import narrow
from tapeout.passes.quantize.nearest import round_to_nearest
from tapeout.passes.quantize.pays import Predictor
from tapeout.passes.quantize.recipe import Recipe, parse_quantize
from tapeout.passes.quantize.residuals import Residual, residuals
from tapeout.passes.quantize.weights import QuantisedWeight, WeightFormat
from tapeout.passes.rewrite import Edit

Array = np.ndarray[Any, Any]
Samples = Iterable[Mapping[str, Array]]

STATIC_BYTES = LayerFormat("int8", WeightFormat(8), "static")
CHANNEL_GROUP = 128
"""Activations that share a scale where weights have one per output."""


@dataclass(frozen=True)
class QuantizeLayers(Pass):
    """Give layers the formats of a recipe: ``nn.dequantize`` of codes on both sides of a product.

    Saves what :mod:`integer_products` then can: bytes, and time on integer units. Formats of 16-bit
    floats save half the bytes (:mod:`narrow_floats`). ``format`` is what ``--quantize`` takes, or a
    recipe. ``samples`` are inputs by name, needed where activations have static scales, and by
    ``gptq``. A convolution has no rows with scales of their own, and no groups: formats of integers
    other than ``int8`` leave it as it is. With a ``predictor``, so does a format that would make a
    layer slower than it is in f32. ``tell`` is told what each layer gets.
    """

    name = "quantize-layers"
    format: str | Recipe = "int8-dynamic"
    samples: Samples | None = None
    predictor: Predictor | None = None
    tell: Callable[[Sequence[Choice]], None] | None = None

    def apply(self, module: Module) -> None:
        """Quantise.

        Errors: E0110 without samples for a static format, E0404 for a format without kernels,
        E0701 and E0702 of weights, E0704 where samples make values that are not finite, E0705 for
        a model without layers.
        """
        asked, found = self.format, list(layers(module))
        recipe = parse_quantize(asked) if isinstance(asked, str) else asked
        if not found:
            fix = "leave --quantize out"
            raise CompileError("E0705", "the model has no layers to quantise", (), fix)
        recipe.refuse_unused(layer.name for layer in found)
        _refuse([(e, f) for e in found if (f := recipe.of(e.name)) is not None], self.samples)
        made = choices(recipe, found, self.predictor)
        if self.tell is not None:
            self.tell(made)
        chosen = [(c.layer, c.format) for c in made if c.format is not None]
        static = [(layer, f) for layer, f in chosen if f.activations == "static"]
        sums = list(residuals(module, [layer.op for layer, _ in static]))
        seen = self._observed(module, chosen, sums)
        edit = Edit(module)
        for layer, format in chosen:
            edit.at(layer.op)
            if format.weight is None:
                narrow(layer, format.compute, edit)
                continue
            statistics = seen.get(layer.input)
            a = _activations(layer.input, format, statistics, edit)
            _replace(layer, a, _weight(layer, format, statistics, edit))
        readers = {layer.input: format for layer, format in static}
        for each in sums:
            edit.at(each.op)
            format = readers.get(each.value, STATIC_BYTES)
            a = _activations(each.value, format, seen.get(each.value), edit)
            each.op.operands[each.place] = a

    def _observed(
        self,
        module: Module,
        chosen: Sequence[tuple[Layer, LayerFormat]],
        sums: Sequence[Residual],
    ) -> Observed:
        """What the samples show of the inputs of layers that need to know, and of sums."""
        grams = [layer.input for layer, f in chosen if f.method == "gptq"]
        static = [layer.input for layer, f in chosen if f.activations == "static"]
        static += [each.value for each in sums]
        if not (grams or static) or self.samples is None:
            return {}
        seen = observe(module, self.samples, static, grams=grams)
        broken = [v for v in seen if seen[v].non_finite]
        if broken:
            names = [layer.name for layer, _ in chosen if layer.input in broken]
            raise CompileError(
                "E0704",
                "calibration gives values that are not finite",
                [("layers", ", ".join(names) or "a residual sum")],
                "look for overflow in the model, or give these layers the format none",
            )
        return seen


def _refuse(asked: Sequence[tuple[Layer, LayerFormat]], samples: Samples | None) -> None:
    formats = {str(f): f for _, f in asked}.values()
    refused = [refusal(f, has_samples=samples is not None) for f in formats]
    errors = [e for e in refused if e is not None]
    errors += [
        CompileError(
            "E0404",
            "filters of convolutions are not rounded by gptq",
            [("layer", layer.name), ("format", f)],
            "take search, or nearest, for this layer",
        )
        for layer, f in asked
        if f.method == "gptq" and f.activations == "static" and isinstance(layer.op, ConvOp)
    ]
    if errors:
        raise together(errors, "the model cannot be quantised like this")


def refusal(f: LayerFormat, *, has_samples: bool) -> CompileError | None:
    """Why no layer can have this format; None where one can. What is lowered stands here alone."""
    facts = [("format", f)]
    if f.weight is None:
        return None
    if isinstance(f.weight.group, int) and f.weight.group % QUAD:
        what = "groups of this format are no multiple of 4, as kernels need them"
        fix = f"take groups of {-(-f.weight.group // QUAD) * QUAD}"
        return CompileError("E0404", what, facts, fix)
    if not has_samples and (f.activations == "static" or f.method == "gptq"):
        other = "int8-dynamic" if f.activations == "static" else "search"
        fix = f"give some with --calibrate, or take {other}, which needs none"
        return CompileError("E0110", "this format needs calibration data", facts, fix)
    return None


def _activations(x: SSAValue, format: LayerFormat, seen: Statistics | None, edit: Edit) -> SSAValue:
    """The input of a layer in bytes: a scale for all, for each row, or for each group of a row."""
    assert format.weight is not None, "this format has integers for weights"
    if format.activations == "static":
        assert seen is not None, "a static format had its input observed"
        return static(x, scaling(seen, BYTES, OBSERVERS[format.observer or "mse"]), edit)
    if format.activations is None:
        group = format.weight.group
        return rounded(x, group if isinstance(group, int) else CHANNEL_GROUP, edit)
    plain = format.weight == WeightFormat(8)
    return dynamic(x, edit) if plain else rounded(x, 0, edit)


def _weight(layer: Layer, format: LayerFormat, seen: Statistics | None, edit: Edit) -> SSAValue:
    """The weight as codes with a scale per output, or per group of inputs."""
    array, of = edit.array(layer.weight), format.weight
    assert array is not None, "a layer's weight is fixed"
    assert of is not None, "this format has integers for weights"
    made = _codes(layer.as_matrix(array), format, of, seen, layer.name)
    codes = edit.constant(layer.as_weight(made.codes), layer.name)
    scales, zeros = (
        None if v is None else edit.constant(layer.per_output(v)) for v in (made.scales, made.zeros)
    )
    blocks = {"axis": layer.summed, "block": of.group} if isinstance(of.group, int) else {}
    return edit.add(DequantizeOp, codes, scales, zeros, to=f32, **blocks)


def _codes(
    matrix: Array, format: LayerFormat, of: WeightFormat, seen: Statistics | None, name: str
) -> QuantisedWeight:
    if format.method != "gptq":
        return round_to_nearest(matrix, of, name=name, search=format.method == "search")
    assert seen is not None, "what gptq needs was observed"
    assert seen.gram is not None, "what gptq needs was observed"
    # Pruned weights stay what they are: zeros.
    keep = None if of.bipolar else matrix != 0
    return gptq(matrix, seen.gram.total, of, name=name, search=True, keep=keep)


def _replace(layer: Layer, a: SSAValue, b: SSAValue) -> None:
    op = layer.op
    op.operands[0], op.operands[1] = a, b
