"""Recurrent layers: each direction of each layer is an operator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir.op import NNOp
from tapeout.ir.ops.recurrent import GruOp, LstmOp, RnnOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import spec

_CELLS: dict[str, tuple[type[NNOp], tuple[int, ...], dict[str, Any]]] = {
    "lstm": (LstmOp, (0, 3, 1, 2), {}),
    "gru": (GruOp, (1, 0, 2), {"linear_before_reset": True}),
    "rnn_tanh": (RnnOp, (0,), {}),
    "rnn_relu": (RnnOp, (0,), {"activations": ("relu",)}),
}
"""The operator, where it has torch's gates, and what makes it torch's cell.

torch's LSTM has the gates input, forget, cell, output; its GRU reset, update, new.
"""


@rule("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
def recurrent(
    b: Builder,
    call: Call,
    x: SSAValue,
    start: SSAValue | Sequence[SSAValue],
    weights: Sequence[SSAValue],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[SSAValue, ...]:
    """Layers one upon the other; results are all states of the last and the last of all."""
    each, directions = 4 if has_biases else 2, 2 if bidirectional else 1
    if len(weights) != each * layers * directions:
        call.refuse("a projection of the state has no support", fix="leave proj_size out")
    if train and dropout:
        call.refuse("dropout has no support", fix="call .eval() before exporting")
    states = [start] if isinstance(start, SSAValue) else list(start)
    y = b.transpose(x, (1, 0, 2)) if batch_first else x
    last = list[list[SSAValue]]()
    for layer in range(layers):
        ways = list[SSAValue]()
        for way in range(directions):
            at = layer * directions + way
            begin = [b.reshape(b.part(s, 0, at, 1), spec(s).dims[1:]) for s in states]
            own = weights[at * each : (at + 1) * each]
            line, *ends = _direction(b, call, y, own, begin, reverse=way == 1)
            ways.append(line)
            last.append(ends)
        y = ways[0] if len(ways) == 1 else b.op(ConcatOp, tuple(ways), axis=2)
    ends = [
        b.op(ConcatOp, tuple(b.reshape(v, (1, *spec(v).dims)) for v in column), axis=0)
        for column in zip(*last, strict=True)
    ]
    return (b.transpose(y, (1, 0, 2)) if batch_first else y, *ends)


def _direction(
    b: Builder,
    call: Call,
    x: SSAValue,
    weights: Sequence[SSAValue],
    begin: Sequence[SSAValue],
    *,
    reverse: bool,
) -> tuple[SSAValue, ...]:
    cell, gates, attrs = _CELLS[call.operator]
    hidden = spec(weights[1]).dims[1].constant
    if hidden is None:
        call.refuse("the size of the state must be a number")
    w, r, *biases = (_in_order(b, value, gates, hidden) for value in weights)
    bias = b.op(ConcatOp, tuple(biases), axis=0) if biases else None
    look = (None,) if cell is LstmOp else ()
    return b.many(cell, x, w, r, bias, None, *begin, *look, hidden=hidden, reverse=reverse, **attrs)


def _in_order(b: Builder, x: SSAValue, gates: Sequence[int], hidden: int) -> SSAValue:
    """Rows of ``x`` gate by gate in another order."""
    parts = tuple(b.part(x, 0, gate * hidden, hidden) for gate in gates)
    return parts[0] if len(parts) == 1 else b.op(ConcatOp, parts, axis=0)
