"""Merged ONNX decoders: whether the graph that continues a past does for the first run too.

Optimum's ``decoder_model_merged.onnx`` has a graph for the first run and one that continues a past.
A program has the second alone, so with an empty past it must be the first: both are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tapeout.frontend.agreement import Array, Tolerance, compare, worst
from tapeout.frontend.onnx.decoder import IDS, MASK, POSITIONS, first_run, with_branch
from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.view import CheckedModel
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.types import Spec, spec

TEXT = (0, 1, 1, 0, 1)
"""Tokens that every vocabulary has."""
CLOSE = Tolerance(rtol=1e-3)


def check_graphs(model: CheckedModel) -> None:
    """Evaluate both graphs of a merged decoder on a first run; E0408 where outputs part."""
    have, want = (_outputs(model, past=past) for past in (True, False))
    name, apart = worst({name: compare(have[name], want[name], CLOSE) for name in want})
    if apart.parts:
        raise CompileError(
            "E0408",
            "a merged decoder's graph for a past is not its graph for the first run",
            [("output", name), ("with an empty past", apart.where)],
            "give decoder_with_past_model.onnx, or compile with --cache inputs",
        )


def _outputs(model: CheckedModel, *, past: bool) -> Mapping[str, Array]:
    module = import_model(first_run(with_branch(model, past=past), len(TEXT)))
    (entry,) = module.entries()
    known = {IDS: TEXT, MASK: 1, POSITIONS: range(len(TEXT))}
    arguments = zip(entry.inputs.data, entry.body.block.args, strict=True)
    return evaluate(module, {n: _filled(n, spec(a), known.get(n, 0)) for n, a in arguments})


def _filled(name: str, its: Spec, value: object) -> Array:
    shape = [d.constant for d in its.dims if d.constant is not None]
    if len(shape) < its.rank:
        raise CompileError(
            "E0408",
            f"the size of a merged decoder's input {quoted(name)} is open",
            [("shape", its.dims)],
            "export it with its size, or compile with --cache inputs",
        )
    return np.broadcast_to(np.asarray(value, its.dtype.numpy), shape)
