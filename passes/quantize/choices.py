"""Which format each layer gets: what a recipe asks for, where it can be had and pays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tapeout.ir.errors import CompileError
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.experts import ExpertMatmulOp
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.layers import Layer
from tapeout.passes.quantize.pays import Prediction, Predictor
from tapeout.passes.quantize.recipe import Recipe

SHOWN = 5
"""Layers of which a refusal gives the figures."""


@dataclass(frozen=True)
class Choice:
    """The format of one layer, None for f32; ``why`` it is not the one that was ``asked`` for."""

    layer: Layer
    asked: LayerFormat | None
    format: LayerFormat | None
    why: str = ""


def choices(
    recipe: Recipe, found: Iterable[Layer], predictor: Predictor | None = None
) -> list[Choice]:
    """What each layer gets; with a predictor, f32 where a format that is for speed would be slower.

    Errors: E0706 where that leaves nothing of what was asked for.
    """
    made = [choose_for(layer, recipe.of(layer.name), predictor) for layer in found]
    asked = [c for c in made if c.asked is not None]
    if predictor is not None and asked and all(c.format is None for c in asked):
        raise _never_pays(asked, predictor)
    return made


def choose_for(layer: Layer, asked: LayerFormat | None, predictor: Predictor | None) -> Choice:
    """What one layer gets that is asked to have a format."""
    if asked is None:
        return Choice(layer, None, None)
    by_row = asked.weight is not None and asked.activations != "static"
    if by_row and isinstance(layer.op, ConvOp):
        return Choice(layer, asked, None, "a convolution has no rows for scales, and no groups")
    if asked.method == "gptq" and isinstance(layer.op, ConvOp):
        return Choice(layer, asked, None, "filters are not rounded by gptq")
    if isinstance(layer.op, ExpertMatmulOp) and asked.activations is not None:
        return Choice(layer, asked, None, "experts take formats of weights alone, bf16 and fp16")
    if isinstance(layer.op, ExpertMatmulOp) and asked.method == "gptq":
        return Choice(layer, asked, None, "inputs of each expert are not told apart for gptq")
    # Formats of weights alone are taken for their bytes, whatever the time.
    for_speed = asked.weight is None or asked.activations is not None
    weighed = for_speed and not asked.always
    if predictor is not None and weighed and predictor.slower(layer, asked):
        return Choice(layer, asked, None, f"slower: {_figures(layer, asked, predictor)}")
    return Choice(layer, asked, asked)


def _figures(layer: Layer, format: LayerFormat, predictor: Predictor) -> str:
    times: Sequence[Prediction] = [predictor.of(layer, f) for f in (format, None)]
    slow, plain = (f"{1e3 * t.seconds:.3g} ms ({t.limit})" for t in times)
    return f"{slow} in {format.name}, {plain} in f32"


def _never_pays(asked: Sequence[Choice], predictor: Predictor) -> CompileError:
    names = ", ".join(dict.fromkeys(str(c.asked) for c in asked))
    sizes = " ".join(f"{name}={value}" for name, value in predictor.at.items())
    more = [("more", f"{len(asked) - SHOWN} layers")] if len(asked) > SHOWN else []
    return CompileError(
        "E0706",
        f"no layer gains from {names}",
        [
            *((c.layer.name, c.why) for c in asked[:SHOWN]),
            *more,
            *([("at", sizes)] if sizes else []),
            ("device", predictor.rates.source),
        ],
        "leave --quantize out, compile for a device with instructions for the format, or add "
        f"',always' for the bytes alone: --quantize {asked[0].asked},always",
    )
