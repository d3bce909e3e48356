"""Decoders whose keys and values are inputs and outputs, read as one sequence without padding.

Exporters (Optimum, the model builder of ONNX Runtime's GenAI, ``torch.onnx``) write a step of
generation as ``input_ids [B, T]``, ``attention_mask [B, S + T]``, ``position_ids [B, T]`` and
``past_key_values.I.key [B, G, S, D]`` in, logits and the grown keys and values out. Of one sequence
the mask is all ones and positions count on from the past: so they are no inputs any more, and what
the graph does with them is known when it is simplified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.symbols import Range
from tapeout.frontend.onnx.value import Value
from tapeout.frontend.onnx.view import CheckedModel, Dim, TensorType, ValueInfo
from tapeout.ir.decoding import PAGES, TOKENS
from tapeout.ir.errors import CompileError

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
LENGTH, PAST = "T", "S"
"""Names of the open sizes: tokens of a run, and those before them."""


@dataclass(frozen=True)
class Decoder:
    """A model whose inputs are one sequence's; ``dims`` are the ranges of its open sizes."""

    model: CheckedModel
    dims: Mapping[str, Range]
    past: str

    def assumed(self, b: Builder, given: Mapping[str, Value]) -> dict[str, Value]:
        """What mask and positions hold, for inputs that are there."""
        tokens, past = given[IDS].dims[1], given[self.past].dims[2]
        found: dict[str, Value] = {}
        if MASK in given:
            found[MASK] = b.filled((1, past + tokens), 1, given[MASK].dtype)
        if POSITIONS in given:
            kind = given[POSITIONS].dtype
            found[POSITIONS] = b.map("add", b.iota((1, tokens), 1, kind), b.size(past, kind))
        return found


def is_decoder(model: CheckedModel) -> bool:
    """Whether a model takes tokens and past keys and values by the names that exporters give."""
    ids = _inputs(model).get(IDS)
    return ids is not None and len(_dims(ids)) == 2 and bool(_past(model))


def as_decoder(model: CheckedModel, dims: Mapping[str, Range]) -> Decoder:
    """The model for one sequence; E0103 for sizes in ``dims`` that are no longer open.

    ``dims`` may give the range of the number of tokens, by the file's name for it.
    """
    inputs, past = _inputs(model), _past(model)
    tokens = _dims(inputs[IDS])[1]
    for name in dims:
        if name != tokens:
            raise CompileError(
                "E0103",
                f"dimension {quoted(name)} is not open in a program that decodes",
                [("open", tokens if isinstance(tokens, str) else "none")],
                "leave it out, or compile with --cache inputs",
            )
    shapes: dict[str, tuple[Dim, ...]] = {
        IDS: (1, LENGTH),
        MASK: (1, "seen"),
        POSITIONS: (1, LENGTH),
        **{name: (1, _dims(inputs[name])[1], PAST, _dims(inputs[name])[3]) for name in past},
    }
    changed = [_with_shape(info, shapes.get(info.name)) for info in model.graph.inputs]
    graph = replace(model.graph, inputs=tuple(changed))
    asked = dims.get(tokens, (1, TOKENS)) if isinstance(tokens, str) else (1, TOKENS)
    # The past has no size of its own in the end: pages hold it.
    sizes: dict[str, Range] = {LENGTH: asked, PAST: (0, PAGES)}
    return Decoder(replace(model, graph=graph), sizes, past[0])


def _inputs(model: CheckedModel) -> dict[str, ValueInfo]:
    return {i.name: i for i in model.graph.inputs if i.name not in model.graph.initializers}


def _past(model: CheckedModel) -> list[str]:
    """Inputs that hold keys and values of the past."""
    named = [i for i in _inputs(model).values() if "past" in i.name.lower()]
    return [i.name for i in named if len(_dims(i)) == 4]


def _dims(info: ValueInfo) -> tuple[Dim, ...]:
    kind = info.type
    shape = kind.shape if isinstance(kind, TensorType) else None
    return shape or ()


def _with_shape(info: ValueInfo, shape: tuple[Dim, ...] | None) -> ValueInfo:
    if shape is None or not isinstance(info.type, TensorType) or len(_dims(info)) != len(shape):
        return info
    return replace(info, type=replace(info.type, shape=shape))
