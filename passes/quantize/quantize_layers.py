"""Quantise the weights and activations of layers, each in the format that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import f32
from tapeout.ir.errors import CompileError, together
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.passes.calibrate.codes import Scaling
from tapeout.passes.calibrate.observe import observe
from tapeout.passes.calibrate.observers import OBSERVERS, scaling
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.activations import BYTES, dynamic, rounded, static
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.grouped_products import QUAD
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.quantize.nearest import round_to_nearest
from tapeout.passes.quantize.recipe import parse_quantize
from tapeout.passes.quantize.weights import WeightFormat
from tapeout.passes.rewrite import Edit

Array = np.ndarray[Any, Any]
Samples = Iterable[Mapping[str, Array]]

CHANNEL_GROUP = 128
"""Activations that share a scale where weights have one per output."""


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
        scalings = self._static(module, static)
        edit = Edit(module)
        for layer, format in chosen:
            if format.activations != "static" and isinstance(layer.op, ConvOp):
                continue
            edit.at(layer.op)
            a = _activations(layer.input, format, scalings, edit)
            _replace(layer, a, _weight(layer, format, module, edit))

    def _static(
        self, module: Module, chosen: list[tuple[Layer, LayerFormat]]
    ) -> Mapping[SSAValue, Scaling]:
        """The scale and zero point of every activation that has static ones, from the samples."""
        if not chosen or self.samples is None:
            return {}
        observers = {layer.input: f.observer or "mse" for layer, f in chosen}
        seen = observe(module, self.samples, list(observers))
        broken = [v for v in observers if seen[v].non_finite]
        if broken:
            names = [layer.name for layer, _ in chosen if layer.input in broken]
            raise CompileError(
                "E0704",
                "calibration gives values that are not finite",
                [("layers", ", ".join(names))],
                "look for overflow in the model, or give these layers the format none",
            )
        return {v: scaling(seen[v], BYTES, OBSERVERS[name]) for v, name in observers.items()}


def _refuse(formats: Iterable[LayerFormat], samples: Samples | None) -> None:
    errors: list[CompileError] = []
    for f in formats:
        facts = [("format", f)]
        if f.weight is None:
            fix = "take int8, int8-dynamic, weights of few bits such as w4g32, or none"
            errors.append(
                CompileError("E0404", "no target has kernels for this format", facts, fix)
            )
        elif isinstance(f.weight.group, int) and f.weight.group % QUAD:
            what = "groups of this format are no multiple of 4, as kernels need them"
            fix = f"take groups of {-(-f.weight.group // QUAD) * QUAD}"
            errors.append(CompileError("E0404", what, facts, fix))
        elif f.method == "gptq":
            fix = "take search, or nearest"
            what = "weights are not rounded by gptq yet"
            errors.append(CompileError("E0404", what, facts, fix))
        elif f.activations == "static" and samples is None:
            fix = "give some with --calibrate, or take int8-dynamic, which needs none"
            errors.append(CompileError("E0110", "this format needs calibration data", facts, fix))
    if errors:
        raise together(errors, "the model cannot be quantised like this")


def _activations(
    x: SSAValue, format: LayerFormat, scalings: Mapping[SSAValue, Scaling], edit: Edit
) -> SSAValue:
    """The input of a layer in bytes: a scale for all, for each row, or for each group of a row."""
    if format.activations == "static":
        return static(x, scalings[x], edit)
    assert format.weight is not None, "this format has integers for weights"
    if format.activations is None:
        group = format.weight.group
        return rounded(x, group if isinstance(group, int) else CHANNEL_GROUP, edit)
    plain = format.weight == WeightFormat(8)
    return dynamic(x, edit) if plain else rounded(x, 0, edit)


def _weight(layer: Layer, format: LayerFormat, module: Module, edit: Edit) -> SSAValue:
    """The weight as codes with a scale per output, or per group of inputs."""
    array, of = module.value_of(layer.weight), format.weight
    assert array is not None, "a layer's weight is fixed"
    assert of is not None, "this format has integers for weights"
    search = format.method == "search"
    made = round_to_nearest(layer.as_matrix(array), of, name=layer.name, search=search)
    codes = edit.constant(layer.as_weight(made.codes), layer.name)
    scales, zeros = (
        None if v is None else edit.constant(layer.per_output(v)) for v in (made.scales, made.zeros)
    )
    blocks = {"axis": layer.summed, "block": of.group} if isinstance(of.group, int) else {}
    return edit.add(DequantizeOp, codes, scales, zeros, to=f32, **blocks)


def _replace(layer: Layer, a: SSAValue, b: SSAValue) -> None:
    op = layer.op
    op.operands[0], op.operands[1] = a, b
