"""Recurrent networks, one layer in one direction; importers stack and join them.

Shared by the three: ``x [T, B, I]``; ``w [n*H, I]`` and ``r [n*H, H]`` for ``n`` gates in ONNX's
order; ``b [2*n*H]`` (input biases, then recurrent ones); ``lengths [B]`` (i32 or i64) are how
many steps of each sequence count; initial ``h0`` and ``c0 [B, H]`` are zero when absent. With
``reverse`` each sequence is read from its own last step. Results: ``y [T, B, H]`` (zero past a
sequence's length), the last state ``h [B, H]``, for the LSTM ``c [B, H]`` too.
``activations`` are keys of ``recurrence.ACTIVATIONS``; ``alphas`` and ``betas`` are their
constants, one each, or empty for ONNX's defaults. ``clip`` > 0 limits what goes into them,
except the LSTM's output activation, which ONNX Runtime does not limit either.
Errors: E0203, E0209, E0210. Source: ONNX LSTM-22, GRU-22, RNN-22.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
)

from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.numeric import wide
from tapeout.ir.op import Array, NNOp
from tapeout.ir.recurrence import ACTIVATIONS, State, activations, scan
from tapeout.ir.shapes import check_dims, check_float, check_index, check_rank, check_same_dtype
from tapeout.ir.types import FlagAttr, FloatAttr, FloatsAttr, IntAttr, Spec, StrsAttr, TensorType


@irdl_op_definition
class LstmOp(NNOp):
    """Long short-term memory; gates in the order input, output, forget, cell.

    ``activations`` are those of the gates, the cell input and the cell output. ``peephole
    [3*H]`` (input, output, forget) adds multiples of the cell state to the gates.
    ``input_forget`` makes the forget gate ``1 - input``. See the module for the rest.
    """

    name = "nn.lstm"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    lengths = opt_operand_def(TensorType)
    h0 = opt_operand_def(TensorType)
    c0 = opt_operand_def(TensorType)
    peephole = opt_operand_def(TensorType)
    hidden = prop_def(IntAttr)
    reverse = prop_def(FlagAttr, FlagAttr(False))
    activations = prop_def(StrsAttr, StrsAttr(("sigmoid", "tanh", "tanh")))
    alphas = prop_def(FloatsAttr, FloatsAttr(()))
    betas = prop_def(FloatsAttr, FloatsAttr(()))
    clip = prop_def(FloatAttr, FloatAttr(0.0))
    input_forget = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)
    h = result_def(TensorType)
    c = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @staticmethod
    def infer(
        x: Spec,
        w: Spec,
        r: Spec,
        b: Spec | None,
        lengths: Spec | None,
        h0: Spec | None,
        c0: Spec | None,
        peephole: Spec | None,
        *,
        hidden: int,
        activations: tuple[str, ...],
        **_: object,
    ) -> tuple[Spec, Spec, Spec]:
        """``y``, ``h``, ``c``."""
        _check_cell("lstm", 4, hidden, x, w, r, b, lengths)
        _check_activations(activations, 3)
        y, state = _results(x, hidden)
        _check_optional("lstm", x, h0=(h0, state), c0=(c0, state))
        _check_optional("lstm", x, peephole=(peephole, x.with_dims((3 * hidden,))))
        return y, state, state

    @staticmethod
    def reference(
        x: Array,
        w: Array,
        r: Array,
        b: Array | None,
        lengths: Array | None,
        h0: Array | None,
        c0: Array | None,
        peephole: Array | None,
        *,
        hidden: int,
        reverse: bool,
        input_forget: bool,
        **cell: Any,
    ) -> tuple[Array, Array, Array]:
        """Step by step."""
        gate, inner, outer = _functions(cell)
        weights, recurrent, bias = wide(w).T, wide(r).T, _bias_sum(b, 4 * hidden)
        look = np.zeros(3 * hidden, weights.dtype) if peephole is None else wide(peephole)
        look_i, look_o, look_f = np.split(look, 3)

        def step(now: Array, state: State) -> State:
            h, c = state
            i, o, f, g = np.split(now @ weights + h @ recurrent + bias, 4, axis=1)
            i = gate(i + look_i * c)
            f = 1 - i if input_forget else gate(f + look_f * c)
            c = f * c + i * inner(g)
            return gate(o + look_o * c) * outer(c), c

        start = (_initial(h0, x, hidden), _initial(c0, x, hidden))
        y, (h, c) = scan(wide(x), lengths, reverse, start, step)
        return y.astype(x.dtype), h.astype(x.dtype), c.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, w: Spec, r: Spec, *_: object, **attrs: object) -> Expr:
        """The two products of each step, and about 30 flops per element of the state."""
        return _cell_cost(x, w, r, 30)


@irdl_op_definition
class GruOp(NNOp):
    """Gated recurrent unit; gates in the order update, reset, hidden.

    ``activations`` are those of the gates and the hidden value. The reset gate multiplies the
    state before the product with ``r``, or with ``linear_before_reset`` the product after it
    and its bias were added. See the module for the rest.
    """

    name = "nn.gru"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    lengths = opt_operand_def(TensorType)
    h0 = opt_operand_def(TensorType)
    hidden = prop_def(IntAttr)
    reverse = prop_def(FlagAttr, FlagAttr(False))
    activations = prop_def(StrsAttr, StrsAttr(("sigmoid", "tanh")))
    alphas = prop_def(FloatsAttr, FloatsAttr(()))
    betas = prop_def(FloatsAttr, FloatsAttr(()))
    clip = prop_def(FloatAttr, FloatAttr(0.0))
    linear_before_reset = prop_def(FlagAttr, FlagAttr(False))
    y = result_def(TensorType)
    h = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @staticmethod
    def infer(
        x: Spec,
        w: Spec,
        r: Spec,
        b: Spec | None,
        lengths: Spec | None,
        h0: Spec | None,
        *,
        hidden: int,
        activations: tuple[str, ...],
        **_: object,
    ) -> tuple[Spec, Spec]:
        """``y``, ``h``."""
        _check_cell("gru", 3, hidden, x, w, r, b, lengths)
        _check_activations(activations, 2)
        y, state = _results(x, hidden)
        _check_optional("gru", x, h0=(h0, state))
        return y, state

    @staticmethod
    def reference(
        x: Array,
        w: Array,
        r: Array,
        b: Array | None,
        lengths: Array | None,
        h0: Array | None,
        *,
        hidden: int,
        reverse: bool,
        linear_before_reset: bool,
        **cell: Any,
    ) -> tuple[Array, Array]:
        """Step by step."""
        gate, inner = _functions(cell)
        w_gates, w_inner = np.split(wide(w).T, [2 * hidden], axis=1)
        r_gates, r_inner = np.split(wide(r).T, [2 * hidden], axis=1)
        both = np.zeros(6 * hidden, w_gates.dtype) if b is None else wide(b)
        b_gates = both[: 2 * hidden] + both[3 * hidden : 5 * hidden]
        bw_inner, br_inner = both[2 * hidden : 3 * hidden], both[5 * hidden :]

        def step(now: Array, state: State) -> State:
            (h,) = state
            update, reset = np.split(gate(now @ w_gates + h @ r_gates + b_gates), 2, axis=1)
            if linear_before_reset:
                recurrent = reset * (h @ r_inner + br_inner)
            else:
                recurrent = (reset * h) @ r_inner + br_inner
            return ((1 - update) * inner(now @ w_inner + bw_inner + recurrent) + update * h,)

        y, (h,) = scan(wide(x), lengths, reverse, (_initial(h0, x, hidden),), step)
        return y.astype(x.dtype), h.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, w: Spec, r: Spec, *_: object, **attrs: object) -> Expr:
        """The two products of each step, and about 20 flops per element of the state."""
        return _cell_cost(x, w, r, 20)


@irdl_op_definition
class RnnOp(NNOp):
    """The plain recurrence ``h = f(x @ w^T + h @ r^T + b)``; see the module for the rest."""

    name = "nn.rnn"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    lengths = opt_operand_def(TensorType)
    h0 = opt_operand_def(TensorType)
    hidden = prop_def(IntAttr)
    reverse = prop_def(FlagAttr, FlagAttr(False))
    activations = prop_def(StrsAttr, StrsAttr(("tanh",)))
    alphas = prop_def(FloatsAttr, FloatsAttr(()))
    betas = prop_def(FloatsAttr, FloatsAttr(()))
    clip = prop_def(FloatAttr, FloatAttr(0.0))
    y = result_def(TensorType)
    h = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @staticmethod
    def infer(
        x: Spec,
        w: Spec,
        r: Spec,
        b: Spec | None,
        lengths: Spec | None,
        h0: Spec | None,
        *,
        hidden: int,
        activations: tuple[str, ...],
        **_: object,
    ) -> tuple[Spec, Spec]:
        """``y``, ``h``."""
        _check_cell("rnn", 1, hidden, x, w, r, b, lengths)
        _check_activations(activations, 1)
        y, state = _results(x, hidden)
        _check_optional("rnn", x, h0=(h0, state))
        return y, state

    @staticmethod
    def reference(
        x: Array,
        w: Array,
        r: Array,
        b: Array | None,
        lengths: Array | None,
        h0: Array | None,
        *,
        hidden: int,
        reverse: bool,
        **cell: Any,
    ) -> tuple[Array, Array]:
        """Step by step."""
        (inner,) = _functions(cell)
        weights, recurrent, bias = wide(w).T, wide(r).T, _bias_sum(b, hidden)

        def step(now: Array, state: State) -> State:
            return (inner(now @ weights + state[0] @ recurrent + bias),)

        y, (h,) = scan(wide(x), lengths, reverse, (_initial(h0, x, hidden),), step)
        return y.astype(x.dtype), h.astype(x.dtype)

    @staticmethod
    def cost(x: Spec, w: Spec, r: Spec, *_: object, **attrs: object) -> Expr:
        """The two products of each step, and about 3 flops per element of the state."""
        return _cell_cost(x, w, r, 3)


def _check_cell(
    op: str,
    gates: int,
    hidden: int,
    x: Spec,
    w: Spec,
    r: Spec,
    b: Spec | None,
    lengths: Spec | None,
) -> None:
    check_float(op, x)
    check_rank(op, "x", x, 3)
    check_same_dtype(op, x, w, r)
    rows = as_expr(gates * hidden)
    check_dims(op, "w", w.dims, (rows, x.dims[2]))
    check_dims(op, "r", r.dims, (rows, as_expr(hidden)))
    _check_optional(op, x, b=(b, x.with_dims((rows * 2,))))
    if lengths is not None:
        check_index(op, lengths)
        check_dims(op, "lengths", lengths.dims, (x.dims[1],))


def _check_optional(op: str, x: Spec, **pairs: tuple[Spec | None, Spec]) -> None:
    for name, (have, want) in pairs.items():
        if have is not None:
            check_same_dtype(op, x, have)
            check_dims(op, name, have.dims, want.dims)


def _check_activations(names: tuple[str, ...], count: int) -> None:
    assert len(names) == count, f"{count} activations, not {len(names)}"
    assert set(names) <= set(ACTIVATIONS), f"activations {names} are not all known"


def _results(x: Spec, hidden: int) -> tuple[Spec, Spec]:
    steps, batch, _ = x.dims
    return x.with_dims((steps, batch, hidden)), x.with_dims((batch, hidden))


def _functions(cell: dict[str, Any]) -> list[Callable[[Array], Array]]:
    return activations(cell["activations"], cell["alphas"], cell["betas"], cell["clip"])


def _initial(state: Array | None, x: Array, hidden: int) -> Array:
    return np.zeros((x.shape[1], hidden), wide(x).dtype) if state is None else wide(state)


def _bias_sum(b: Array | None, rows: int) -> Array | float:
    return 0.0 if b is None else wide(b)[:rows] + wide(b)[rows:]


def _cell_cost(x: Spec, w: Spec, r: Spec, per_element: int) -> Expr:
    steps = x.dims[0] * x.dims[1]
    return steps * (w.size + r.size) * 2 + steps * r.dims[1] * per_element
