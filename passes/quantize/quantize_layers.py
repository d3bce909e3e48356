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
from tapeout.ir.ops.quantized import DequantizeOp
from tapeout.passes.calibrate.codes import Scaling
from tapeout.passes.calibrate.observe import observe
from tapeout.passes.calibrate.observers import OBSERVERS, scaling
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.activations import BYTES, dynamic, rounded, static
from tapeout.passes.quantize.choices import Choice, choices
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.grouped_products import QUAD
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.quantize.nearest import round_to_nearest
from tapeout.passes.quantize.pays import Predictor
from tapeout.passes.quantize.recipe import Recipe, parse_quantize
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
    what ``--quantize`` takes, or a recipe. ``samples`` are inputs by name, needed where activations
    have static scales. A convolution has none per row, so ``int8-dynamic`` leaves it as it is. With
    a ``predictor``, so does every format that would make a layer slower than it is in f32. ``tell``
    is told what each layer gets.
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
        a model without layers, E0706 where no layer gains.
        """
        asked, found = self.format, list(layers(module))
        recipe = parse_quantize(asked) if isinstance(asked, str) else asked
        if not found:
            fix = "leave --quantize out"
            raise CompileError("E0705", "the model has no layers to quantise", (), fix)
        recipe.refuse_unused(layer.name for layer in found)
        formats = {str(f): f for layer in found if (f := recipe.of(layer.name)) is not None}
        _refuse(formats.values(), self.samples)
        made = choices(recipe, found, self.predictor)
        if self.tell is not None:
            self.tell(made)
        chosen = [(c.layer, c.format) for c in made if c.format is not None]
        static = [pair for pair in chosen if pair[1].activations == "static"]
        scalings = self._static(module, static)
        edit = Edit(module)
        for layer, format in chosen:
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
    errors = [e for f in formats if (e := refusal(f, has_samples=samples is not None)) is not None]
    if errors:
        raise together(errors, "the model cannot be quantised like this")


def refusal(format: LayerFormat, *, has_samples: bool) -> CompileError | None:
    """Why no layer can have this format; None where one can. What is lowered stands here alone."""
    facts, of = [("format", format)], format.weight
    if of is None:
        fix = "take int8, int8-dynamic, weights of few bits such as w4g32, or none"
        return CompileError("E0404", "no target has kernels for this format", facts, fix)
    if isinstance(of.group, int) and of.group % QUAD:
        what = "groups of this format are no multiple of 4, as kernels need them"
        fix = f"take groups of {-(-of.group // QUAD) * QUAD}"
        return CompileError("E0404", what, facts, fix)
    if format.method == "gptq":
        what = "weights are not rounded by gptq yet"
        return CompileError("E0404", what, facts, "take search, or nearest")
    if format.activations == "static" and not has_samples:
        fix = "give some with --calibrate, or take int8-dynamic, which needs none"
        return CompileError("E0110", "this format needs calibration data", facts, fix)
    return None


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
