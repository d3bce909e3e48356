"""Recurrences of language models, whose state outlives a run.

Tokens ``[T]`` of several sequences stand in one batch, those of a sequence one after the other:
sequence ``b`` has tokens ``[start[b], stop[b])`` (both i32), which may be none. Spans do not
overlap. Each sequence has a row of the state, which begins as what earlier runs left.

Source: Dao and Gu 2024, arXiv:2405.21060, for the scan of Mamba-2, in its recurrent form.
"""

from collections.abc import Iterator

import numpy as np
from xdsl.irdl import irdl_op_definition, operand_def, result_def

from tapeout.ir.assumptions import may_divide
from tapeout.ir.dtypes import f32, i32
from tapeout.ir.expr import Expr
from tapeout.ir.op import Array, NNOp
from tapeout.ir.shapes import check_dims, check_kind, check_rank, misfit
from tapeout.ir.types import Spec, TensorType


@irdl_op_definition
class StateConvOp(NNOp):
    """A causal convolution of each channel by itself, along the tokens of each sequence.

    ``y[t, c] = sum_k weight[k, c] * x[t - (K - 1) + k, c]``, where what came before the first
    token is the sequence's row of ``state``. Shapes: ``state [B, K - 1, C]``, ``x [T, C]``,
    ``weight [K, C]``, all f32. Results: ``y [T, C]``, 0 for a token of no sequence, and the state
    with the last ``K - 1`` tokens. Errors: E0203, E0209.
    """

    name = "nn.state_conv"
    state = operand_def(TensorType)
    start = operand_def(TensorType)
    stop = operand_def(TensorType)
    x = operand_def(TensorType)
    weight = operand_def(TensorType)
    y = result_def(TensorType)
    after = result_def(TensorType)

    @staticmethod
    def infer(state: Spec, start: Spec, stop: Spec, x: Spec, weight: Spec) -> tuple[Spec, Spec]:
        """As ``x``, as ``state``."""
        check_kind("state_conv", ("float",), state, x, weight)
        for name, value, rank in (("state", state, 3), ("x", x, 2), ("weight", weight, 2)):
            check_rank("state_conv", name, value, rank)
        _check_spans("state_conv", state, start, stop)
        check_dims("state_conv", "state", state.dims[2:], x.dims[1:])
        check_dims("state_conv", "weight", weight.dims, (state.dims[1] + 1, x.dims[1]))
        return x, state

    @staticmethod
    def reference(
        state: Array, start: Array, stop: Array, x: Array, weight: Array
    ) -> tuple[Array, Array]:
        """One token after the other."""
        y, after = np.zeros_like(x), state.copy()
        for b, t in _tokens(start, stop, len(x)):
            window = np.concatenate([after[b], x[t : t + 1]])
            y[t] = (window * weight).sum(0)
            after[b] = window[1:]
        return y, after

    @staticmethod
    def cost(state: Spec, start: Spec, stop: Spec, x: Spec, weight: Spec) -> Expr:
        """``K`` products per element."""
        return x.size * weight.dims[0] * 2


@irdl_op_definition
class StateScanOp(NNOp):
    """A state of each head decays, takes a token in, and is read.

    ``s = s * decay[t, h] + b[t, g] (x) x[t, h]`` and ``y[t, h] = c[t, g] @ s``, token after token
    of a sequence, where head ``h`` reads group ``g = h // (H / G)``. Shapes: ``state
    [B, H, N, P]``, ``x [T, H, P]``, ``decay [T, H]``, ``b`` and ``c`` ``[T, G, N]``, all f32.
    Results: ``y [T, H, P]``, 0 for a token of no sequence, and the state after the last token.
    Errors: E0203, E0209.
    """

    name = "nn.state_scan"
    state = operand_def(TensorType)
    start = operand_def(TensorType)
    stop = operand_def(TensorType)
    x = operand_def(TensorType)
    decay = operand_def(TensorType)
    b = operand_def(TensorType)
    c = operand_def(TensorType)
    y = result_def(TensorType)
    after = result_def(TensorType)

    @staticmethod
    def infer(
        state: Spec, start: Spec, stop: Spec, x: Spec, decay: Spec, b: Spec, c: Spec
    ) -> tuple[Spec, Spec]:
        """As ``x``, as ``state``."""
        check_kind("state_scan", ("float",), state, x, decay, b, c)
        for name, value, rank in (("state", state, 4), ("x", x, 3), ("b", b, 3)):
            check_rank("state_scan", name, value, rank)
        _check_spans("state_scan", state, start, stop)
        tokens, heads, depth = x.dims
        check_dims("state_scan", "state", (state.dims[1], state.dims[3]), (heads, depth))
        check_dims("state_scan", "decay", decay.dims, (tokens, heads))
        check_dims("state_scan", "b", b.dims, (tokens, b.dims[1], state.dims[2]))
        check_dims("state_scan", "c", c.dims, b.dims)
        if not may_divide(heads, b.dims[1]):
            raise misfit("state_scan", ("x", x.dims), ("b", b.dims))
        return x, state

    @staticmethod
    def reference(
        state: Array, start: Array, stop: Array, x: Array, decay: Array, b: Array, c: Array
    ) -> tuple[Array, Array]:
        """One token after the other."""
        y, after = np.zeros_like(x), state.copy()
        share = x.shape[1] // b.shape[1]
        b, c = (np.repeat(v, share, axis=1) for v in (b, c))
        for s, t in _tokens(start, stop, len(x)):
            after[s] *= decay[t][:, None, None]
            after[s] += b[t][:, :, None] * x[t][:, None, :]
            y[t] = (c[t][:, :, None] * after[s]).sum(1)
        return y, after

    @staticmethod
    def cost(state: Spec, start: Spec, stop: Spec, x: Spec, decay: Spec, b: Spec, c: Spec) -> Expr:
        """Five operations per token and element of a state."""
        return x.size * state.dims[2] * 5


def _check_spans(op: str, state: Spec, start: Spec, stop: Spec) -> None:
    for name, value in (("start", start), ("stop", stop)):
        check_dims(op, name, value.dims, state.dims[:1])
    assert all(v.dtype is i32 for v in (start, stop)), "numbers of tokens are i32"
    assert state.dtype is f32, "states are f32"


def _tokens(start: Array, stop: Array, count: int) -> Iterator[tuple[int, int]]:
    """Sequence and token, in their order."""
    for s, (first, last) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        for t in range(max(first, 0), min(last, count)):
            yield s, t
