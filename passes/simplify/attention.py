"""Attention put together again from products, scales, masks and a softmax."""

from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from tapeout.ir.dtypes import boolean
from tapeout.ir.expr import ONE
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.views import ReshapeOp, TransposeOp
from tapeout.ir.types import Spec, spec
from tapeout.passes.manager import Pass
from tapeout.passes.match import (
    HIDDEN,
    either_way,
    made_by,
    number,
    only_use,
    operands_of,
    times_number,
)
from tapeout.passes.rewrite import Edit, Pattern, Replacement, drive


@dataclass(frozen=True)
class RecomposeAttention(Pass):
    """Find ``softmax(q @ k^T * scale + mask) @ v`` in the forms that exporters write.

    Saves writing and reading the scores, which are heads x queries x keys.
    """

    name = "recompose-attention"

    def apply(self, module: Module) -> None:
        """Find attentions; canonicalising then simplifies their keys, values and masks."""
        drive(module, PATTERNS)


@dataclass(frozen=True)
class Scores:
    """``scale * cap(q @ k^T) + masks``, read from the softmax towards the product."""

    product: MatmulOp
    scale: float
    softcap: float
    mask: SSAValue | None


class Attention(Pattern[MatmulOp]):
    """``softmax(q @ k^T * scale + mask) @ v = attention(q, k, v, mask)``.

    The scale may be split over ``q`` and ``k``; a guard that turns NaN to 0 after the softmax
    is what attention does for a query that sees no key. Where anything else reads the scores
    or the probabilities, they would be computed twice: leave it alone.
    """

    root = MatmulOp

    def _rewrite(self, op: MatmulOp, edit: Edit) -> Replacement:
        rank = spec(op.y).rank
        softmax = _softmax_behind(op.a, edit)
        if softmax is None or rank not in (3, 4) or softmax.axis.data % rank != rank - 1:
            return None
        scores = _read_scores(softmax.x, edit)
        if scores is None or not _mask_fits(scores):
            return None
        q, q_scale = _unscaled(scores.product.a, edit)
        k, k_scale = _unscaled(scores.product.b, edit)
        leads = {spec(v).dims[:-2] for v in (q, k, op.b)}
        if len(leads) != 1 or len({spec(v).dtype for v in (q, k, op.b)}) != 1:
            return None
        k = k if scores.product.transpose_b.data else _turned(k, edit)
        v = _turned(op.b, edit) if op.transpose_b.data else op.b
        found = edit.add(
            AttentionOp,
            *(_with_batch(x, edit) for x in (q, k, v)),
            scores.mask,
            scale=_unrounded(q_scale * k_scale * scores.scale, spec(q)),
            softcap=scores.softcap,
        )
        return found if rank == 4 else edit.add(ReshapeOp, found, shape=spec(op.y).dims)


def _unrounded(scale: float, q: Spec) -> float:
    """``1 / sqrt(D)`` where the scale is that up to the rounding of its two f32 factors."""
    depth = q.dims[-1].constant
    exact = scale if not depth else depth**-0.5
    return exact if abs(scale - exact) <= 1.2e-7 * exact else scale


def _softmax_behind(value: SSAValue, edit: Edit) -> SoftmaxOp | None:
    """The softmax behind a NaN guard and a conversion, when nothing else reads any of them."""
    if not only_use(value):
        return None
    guarded = operands_of(value, "where")
    if guarded is not None:
        test, zero, rest = guarded
        asked = operands_of(test, "is_nan")
        if asked is None or asked[0] is not rest or number(edit, zero) != 0 or not only_use(test):
            return None
        if rest.uses.get_length() != 2:
            return None
        value = rest
    back = made_by(value, ConvertOp)
    if back is not None and spec(back.x).dtype.name == "f32" and only_use(back.x):
        value = back.x
    return made_by(value, SoftmaxOp)


def _read_scores(value: SSAValue, edit: Edit) -> Scores | None:
    """Take masks, a cap, scales and a conversion off the scores; None if something else is left."""
    mask: SSAValue | None = None
    scale, softcap = 1.0, 0.0
    while only_use(value):
        masked = _masked(value, edit) if mask is None and scale == 1.0 and not softcap else None
        scaled = times_number(edit, value)
        if masked is not None:
            value, mask = masked
        elif isinstance(value.owner, MatmulOp):
            return Scores(value.owner, scale, softcap, mask)
        elif scaled is not None:
            capped = operands_of(scaled[0], "tanh")
            if capped is not None and scale == 1.0 and not softcap and only_use(scaled[0]):
                inner = times_number(edit, capped[0])
                if inner is None or abs(inner[1] * scaled[1] - 1) > 1e-5:
                    return None
                value, softcap = inner[0], scaled[1]
            else:
                value, scale = scaled[0], scale * scaled[1]
        elif isinstance(value.owner, ConvertOp) and spec(value).dtype.name == "f32":
            value = value.owner.x
        else:
            return None
    return None


def _masked(value: SSAValue, edit: Edit) -> tuple[SSAValue, SSAValue] | None:
    """``(scores, mask)`` when ``value`` is ``scores + mask`` or scores chosen by a condition."""
    total = operands_of(value, "add")
    for scores, mask in either_way(total) if total is not None else ():
        # The mask must not be what leads to the product; a shared one never does.
        if only_use(scores) and spec(scores) == spec(value) and _leads_to_product(scores):
            return scores, mask
    chosen = operands_of(value, "where")
    if chosen is None or spec(value).dtype is boolean:
        return None
    condition, a, b = chosen
    for scores, other, keep in ((a, b, True), (b, a, False)):
        hidden = number(edit, other)
        if hidden is None or hidden > HIDDEN or not only_use(scores):
            continue
        if spec(scores) != spec(value) or not _leads_to_product(scores):
            continue
        if np.isinf(hidden):
            return scores, condition if keep else edit.map("not", condition)
        zero = edit.constant(np.zeros((), spec(value).dtype.numpy))
        pair = (zero, other) if keep else (other, zero)
        return scores, edit.map("where", condition, *pair)
    return None


def _leads_to_product(value: SSAValue) -> bool:
    for _ in range(6):
        owner = value.owner
        if isinstance(owner, MatmulOp):
            return True
        if isinstance(owner, ConvertOp):
            value = owner.x
        elif isinstance(owner, MapOp) and owner.fn.data in ("mul", "div", "tanh", "add"):
            value = next((x for x in owner.xs if not _is_small(x)), owner.xs[0])
        else:
            return False
    return False


def _is_small(value: SSAValue) -> bool:
    return all(d == ONE for d in spec(value).dims)


def _mask_fits(scores: Scores) -> bool:
    """Whether the mask repeats to the scores without widening them, in a type attention takes."""
    if scores.mask is None:
        return True
    have, want = spec(scores.mask), spec(scores.product.y)
    tail = want.dims[want.rank - have.rank :] if have.rank <= want.rank else ()
    fits = len(tail) == have.rank and all(
        a in (ONE, b) for a, b in zip(have.dims, tail, strict=True)
    )
    return fits and have.dtype in (boolean, want.dtype)


def _unscaled(value: SSAValue, edit: Edit) -> tuple[SSAValue, float]:
    """``(x, c)`` for ``value = x * c``; ``(value, 1)`` otherwise."""
    return times_number(edit, value) or (value, 1.0)


def _turned(value: SSAValue, edit: Edit) -> SSAValue:
    n = spec(value).rank
    return edit.add(TransposeOp, value, perm=(*range(n - 2), n - 1, n - 2))


def _with_batch(value: SSAValue, edit: Edit) -> SSAValue:
    """Matrices per head ``[H, S, D]`` as a batch of one."""
    dims = spec(value).dims
    return value if len(dims) == 4 else edit.add(ReshapeOp, value, shape=(ONE, *dims))


PATTERNS = (Attention(),)
