"""What each layer can be: its candidate formats, with their noise, bytes and predicted time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.budget.alone import Alone, inputs_of
from tapeout.passes.quantize.choices import choose_for
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.quantize.pays import Prediction, Predictor, weight_bytes

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Option:
    """One format of one layer, None for f32.

    ``noise``: power of the error over that of the output, the layer alone being quantised.
    """

    format: LayerFormat | None
    noise: float
    bytes: int
    prediction: Prediction

    @property
    def name(self) -> str:
        """The format as a user writes it."""
        return "f32" if self.format is None else str(self.format)

    @property
    def sqnr(self) -> float:
        """Signal to quantisation noise in dB; infinite for f32."""
        return -10 * math.log10(self.noise) if self.noise else math.inf

    @property
    def cost(self) -> int:
        """Predicted picoseconds, and one for each byte: of equally fast formats, the smaller."""
        return round(1e12 * self.prediction.seconds) + self.bytes


@dataclass(frozen=True)
class Layered:
    """A layer with its options, f32 first; ``barred`` says why candidates are none of them."""

    layer: Layer
    options: Sequence[Option]
    barred: Mapping[str, str]


def options_of(
    module: Module,
    candidates: Sequence[LayerFormat],
    samples: Iterable[Mapping[str, Array]],
    predictor: Predictor,
) -> list[Layered]:
    """The options of every layer of a simplified module.

    Errors: E0701 for weights that are not finite, E0705 for a model without layers.
    """
    found = list(layers(module))
    if not found:
        fix = "leave --quantize and --max-drop out"
        raise CompileError("E0705", "the model has no layers to quantise", (), fix)
    inputs = inputs_of(module, found, samples)
    return [_layered(each, module, inputs.get(each.input), candidates, predictor) for each in found]


def _layered(
    layer: Layer,
    module: Module,
    x: Array | None,
    candidates: Sequence[LayerFormat],
    predictor: Predictor,
) -> Layered:
    options, barred = [_option(layer, None, 0.0, predictor)], dict[str, str]()
    alone = None if x is None else Alone.of(layer, module, x)
    for format in candidates:
        choice = choose_for(layer, format, predictor)
        if choice.format is None:
            barred[str(format)] = choice.why
        elif alone is None:
            barred[str(format)] = "no sample came by here"
        else:
            try:
                noise = alone.noise(format)
            except CompileError as error:
                if error.code not in ("E0702", "E0704"):
                    raise
                barred[str(format)] = error.what
                continue
            if math.isfinite(noise):
                options.append(_option(layer, format, noise, predictor))
            else:
                barred[str(format)] = "its output is not finite"
    return Layered(layer, options, barred)


def _option(layer: Layer, format: LayerFormat | None, noise: float, predictor: Predictor) -> Option:
    return Option(format, noise, weight_bytes(layer, format), predictor.of(layer, format))
