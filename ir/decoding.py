"""The face of a program that decodes: what it takes and keeps for its attention.

For ``T`` tokens of ``B`` sequences it takes ``slots [T]`` (where keys and values are written),
``sequence [T]``, ``end [T]`` (how many slots of its sequence a token sees), ``tree [T]`` (which of
the slots behind these: the tokens that it follows in a tree, or 0) and ``table [B, L]`` (pages of
each sequence). Each layer that attends has two states: ``keys.I [P, G, D, N]`` and
``values.I [P, G, N, E]``.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import i32, i64
from tapeout.ir.expr import Expr, as_expr, symbol
from tapeout.ir.ops.paged import TREE, PagedAttentionOp, WriteSlotsOp
from tapeout.ir.types import Spec, spec

PAGE = 64
"""Slots of a page."""
SEQUENCES, PAGES = 4096, 1 << 20
TOKENS = 2048
"""Tokens that one run takes at most."""


@dataclass(frozen=True)
class Layer:
    """What one layer caches: ``groups`` key heads of size ``depth``, values of ``depth_v``."""

    number: int
    groups: int
    depth: int
    depth_v: int
    spec: Spec

    @property
    def names(self) -> tuple[str, str]:
        """Names of its states."""
        return f"keys.{self.number}", f"values.{self.number}"

    @property
    def states(self) -> list[tuple[str, Spec]]:
        """Names and types of its states."""
        pages, sizes = symbol("P", 1, PAGES), (self.groups, self.depth, self.depth_v)
        groups, depth, depth_v = map(as_expr, sizes)
        lines = as_expr(PAGE)
        shapes = ((pages, groups, depth, lines), (pages, groups, lines, depth_v))
        return [(n, self.spec.with_dims(s)) for n, s in zip(self.names, shapes, strict=True)]


def places(
    tokens: Expr, windows: Iterable[int], context: int | None = None
) -> list[tuple[str, Spec]]:
    """Names and types of the inputs that say where tokens are kept and what they see.

    ``windows``: of the layers that attend, 0 for those without. ``context``: how many tokens the
    model is made for, where it limits that; whole pages of them.
    """
    row = (tokens,)
    pages = PAGES if context is None else max(1, context // PAGE)
    # A window that a tree may be deeper than would have to end inside of it, where places in the
    # cache and in the text differ.
    tree = [("tree", Spec(row, i64))] if all(not w or w >= TREE for w in windows) else []
    return [
        ("slots", Spec(row, i64)),
        ("sequence", Spec(row, i32)),
        ("end", Spec(row, i32)),
        *tree,
        ("table", Spec((sequences(), symbol("L", 1, pages)), i32)),
    ]


def sequences() -> Expr:
    """The size ``B``."""
    return symbol("B", 1, SEQUENCES)


def attend(
    emit: Emit,
    values: MutableMapping[str, SSAValue],
    layer: int,
    tokens: tuple[SSAValue, SSAValue, SSAValue],
    *,
    scale: float,
    softcap: float = 0.0,
    window: int = 0,
) -> SSAValue:
    """Write keys and values of all tokens to the cache, then attend to it token by token.

    ``tokens``: ``q [T, H, D]``, ``k [T, G, D]``, ``v [T, G, E]``; gives ``[T, H, E]``. ``values``
    has ``positions`` and what :func:`places` names, and the states, which become what they are
    after it. A token sees the ``window`` places up to its own, or with 0 all.
    """
    q, k, v = tokens
    for name, x, turned in ((f"keys.{layer}", k, True), (f"values.{layer}", v, False)):
        values[name] = emit.op(WriteSlotsOp, values[name], values["slots"], x, turned=turned)
    return emit.op(
        PagedAttentionOp,
        q,
        values[f"keys.{layer}"],
        values[f"values.{layer}"],
        values["table"],
        values["sequence"],
        _first(emit, values["positions"], window),
        values["end"],
        values.get("tree"),
        scale=scale,
        softcap=softcap,
    )


def by_token(emit: Emit, x: SSAValue) -> SSAValue:
    """``[1, H, T, D]`` as ``[T, H, D]``."""
    _, heads, tokens, depth = spec(x).dims
    return emit.transpose(emit.reshape(x, (heads, tokens, depth)), (1, 0, 2))


def _first(emit: Emit, positions: SSAValue, window: int) -> SSAValue:
    if not window:
        return emit.expand(emit.constant(0, i32), spec(positions).dims)
    first = emit.map("sub", positions, emit.constant(window - 1, i64))
    return emit.convert(emit.map("max", first, emit.constant(0, i64)), i32)
