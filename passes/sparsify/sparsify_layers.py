"""Prune the weights of layers, each as a recipe says: what is of least use becomes zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.passes.calibrate.observe import observe
from tapeout.passes.calibrate.statistics import Channels
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.layers import Layer, layers
from tapeout.passes.rewrite import Edit
from tapeout.passes.sparsify.masks import mask
from tapeout.passes.sparsify.patterns import Sparsity, parse_sparsify

Array = np.ndarray[Any, Any]
Samples = Iterable[Mapping[str, Array]]
Chosen = list[tuple[Layer, Sparsity]]


@dataclass(frozen=True)
class SparsifyLayers(Pass):
    """Set the weights of least magnitude or saliency to zero, in the pattern of a recipe.

    Saves nothing by itself: ``encode-products`` leaves the zeros out where a target gains by it.
    Zeros stay exact when weights are quantised. ``sparsity`` is what ``--sparsify`` takes;
    ``samples`` are inputs by name, needed where weights are judged by saliency.
    """

    name = "sparsify-layers"
    sparsity: str = "4x1@0.5"
    samples: Samples | None = None

    def apply(self, module: Module) -> None:
        """Prune.

        Errors: E0110 for saliency without samples, E0404 for that of a convolution, E0701 for
        weights that are not finite, E0704 where samples make values that are not finite, E0705
        for a model without layers.
        """
        recipe, found = parse_sparsify(self.sparsity), list(layers(module))
        if not found:
            fix = "leave --sparsify out"
            raise CompileError("E0705", "the model has no layers to sparsify", (), fix)
        recipe.refuse_unused(layer.name for layer in found)
        chosen = [(layer, s) for layer in found if (s := recipe.of(layer.name)) is not None]
        squares = self._mean_squares(module, [pair for pair in chosen if _by_saliency(pair[1])])
        edit = Edit(module)
        for layer, sparsity in chosen:
            array = module.value_of(layer.weight)
            assert array is not None, "a layer's weight is fixed"
            matrix = layer.as_matrix(array)
            square = squares[layer.input] if _by_saliency(sparsity) else None
            kept = mask(matrix, sparsity, mean_square=square, name=layer.name)
            edit.at(layer.op)
            pruned = layer.as_weight(np.where(kept, matrix, matrix.dtype.type(0)))
            layer.op.operands[1] = edit.weight(pruned, layer.name)

    def _mean_squares(self, module: Module, chosen: Chosen) -> Mapping[SSAValue, Array]:
        """The mean squares of the inputs of layers, by channel, over the samples."""
        if not chosen:
            return {}
        convolutions = [layer.name for layer, _ in chosen if isinstance(layer.op, ConvOp)]
        if convolutions:
            raise CompileError(
                "E0404",
                "the saliency of a convolution's weights is not known",
                [("layers", ", ".join(convolutions))],
                "leave ,saliency out for these: a TOML file says it per layer",
            )
        if self.samples is None:
            raise CompileError(
                "E0110",
                "saliency needs calibration data",
                [("sparsity", chosen[0][1])],
                "give some with --calibrate, or leave ,saliency out",
            )
        inputs = [layer.input for layer, _ in chosen]
        seen = observe(module, self.samples, inputs)
        broken = [layer.name for layer, _ in chosen if seen[layer.input].non_finite]
        if broken:
            raise CompileError(
                "E0704",
                "calibration gives values that are not finite",
                [("layers", ", ".join(broken))],
                "look for overflow in the model, or leave ,saliency out for these layers",
            )
        return {v: _mean_square(seen[v].channels) for v in inputs}


def _by_saliency(sparsity: Sparsity) -> bool:
    return sparsity.by == "saliency"


def _mean_square(channels: Channels | None) -> Array:
    assert channels is not None, "a matrix has a fixed number of inputs"
    return channels.mean_square
