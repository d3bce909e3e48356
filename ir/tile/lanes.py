"""Expressions at every lane of a tile: numpy arrays that broadcast to the tile's shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.tile.ops import lane_axis

Array = np.ndarray[Any, Any]
Known = Callable[[Symbol], int | Array]
"""The value of a symbol that is no lane."""

FUNCTIONS: Mapping[str, Any] = {
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "min": np.minimum,
    "max": np.maximum,
}
"""The calls of an expression, on the values of all lanes at once."""


def at_lanes(expr: Expr, shape: Sequence[int], known: Known) -> Array:
    """The value of an expression at every lane of a tile of ``shape``."""
    total: Any = np.int64(0)
    for monomial, c in expr.terms:
        term: Any = np.int64(c)
        for atom in monomial:
            if isinstance(atom, Symbol):
                term = term * _value(atom, shape, known)
            else:
                term = term * FUNCTIONS[atom.fn](*(at_lanes(a, shape, known) for a in atom.args))
        total = total + term
    return np.asarray(total)


def _value(s: Symbol, shape: Sequence[int], known: Known) -> Any:
    axis = lane_axis(s)
    if axis is None:
        return known(s)
    return np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])


def mask(pairs: Iterable[tuple[Expr, Expr]], shape: Sequence[int], known: Known) -> Array:
    """The lanes at which all bounds hold."""
    inside = np.ones(tuple(shape), bool)
    for e, n in pairs:
        value = at_lanes(e, shape, known)
        inside &= np.broadcast_to((value >= 0) & (value < at_lanes(n, shape, known)), shape)
    return inside
