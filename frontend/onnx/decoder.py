"""Decoders whose keys and values are inputs and outputs, read as one sequence without padding.

Exporters (Optimum, the model builder of ONNX Runtime's GenAI, ``torch.onnx``) write a step of
generation as ``input_ids [B, T]``, ``attention_mask [B, S + T]``, ``position_ids [B, T]`` and
``past_key_values.I.key [B, G, S, D]`` in, logits and the grown keys and values out. Of one sequence
the mask is all ones and positions count on from the past: so they are no inputs any more, and what
the graph does with them is known when it is simplified.

Optimum's merged decoders hold two graphs under an ``If``: one for the first run, one that continues
a past. The second does for both, for a past may be empty; ``use_cache_branch``, which chooses, is
no input any more either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.symbols import Range
from tapeout.frontend.onnx.value import Value
from tapeout.frontend.onnx.view import CheckedModel, Dim, Tensor, TensorType, ValueInfo
from tapeout.ir.decoding import PAGES, TOKENS
from tapeout.ir.errors import CompileError

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
MERGED = "use_cache_branch"
"""The input of a merged decoder that chooses the graph which continues a past."""
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
    model = with_branch(replace(model, graph=graph), past=True)
    asked = dims.get(tokens, (1, TOKENS)) if isinstance(tokens, str) else (1, TOKENS)
    # The past has no size of its own in the end: pages hold it.
    sizes: dict[str, Range] = {LENGTH: asked, PAST: (0, PAGES)}
    return Decoder(model, sizes, past[0])


def is_merged(model: CheckedModel) -> bool:
    """Whether a decoder has two graphs, of which an input chooses one."""
    info = _inputs(model).get(MERGED)
    return info is not None and isinstance(info.type, TensorType) and info.type.dtype == np.bool_


def with_branch(model: CheckedModel, *, past: bool) -> CheckedModel:
    """A merged decoder whose graph is chosen: the one that continues a past, or the other."""
    if not is_merged(model):
        return model
    chosen = Tensor(MERGED, np.array([past]))
    inputs = tuple(i for i in model.graph.inputs if i.name != MERGED)
    known = {**model.graph.initializers, MERGED: chosen}
    return replace(model, graph=replace(model.graph, inputs=inputs, initializers=known))


def first_run(model: CheckedModel, tokens: int) -> CheckedModel:
    """A decoder for one sequence of so many tokens, with nothing before them."""
    inputs = _inputs(model)
    shapes: dict[str, tuple[Dim, ...]] = dict.fromkeys((IDS, MASK, POSITIONS), (1, tokens))
    shapes |= {n: (1, _dims(inputs[n])[1], 0, _dims(inputs[n])[3]) for n in _past(model)}
    changed = [_with_shape(info, shapes.get(info.name)) for info in model.graph.inputs]
    return replace(model, graph=replace(model.graph, inputs=tuple(changed)))


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
