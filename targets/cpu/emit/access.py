"""Loads and stores of tiles: which accesses are one vector, masked, strided, or lane by lane.

An index expression is linear in the lanes almost always; its coefficient of the column lane
``_lane1`` is the stride of a vector. What the ranges of symbols prove to be inside is not checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Expr, Symbol, as_expr, is_at_least, is_less
from tapeout.ir.tile.ops import lane_axis
from tapeout.targets.host.text import (
    c_expr,
    c_factor,
    c_type,
    carrier,
    is_stored_narrow,
    literal,
)

Pair = tuple[Expr, Expr]


@dataclass(frozen=True)
class Access:
    """One vector (or scalar) of a load or store: flat index, bounds, and how lanes appear.

    ``column`` is the column lane, or None when all lanes are one element. ``names`` gives
    dimensions their C names; ``tiles`` index operands, with ``{lane}`` where the lane goes.
    """

    pointer: str
    dtype: DType
    flat: Expr
    bounds: tuple[Pair, ...]
    column: Symbol | None
    names: Mapping[str, str]
    tiles: Mapping[str, str]
    lanes: int

    @property
    def stride(self) -> Expr | None:
        """Elements from lane to lane; None when lanes are not evenly spaced."""
        if self.column is None or any(s.name in self.tiles for s in self.flat.symbols()):
            return None
        return self.flat.coefficient(self.column)

    def at(self, lane: int | None) -> tuple[str, str]:
        """The element index and the condition, in C, at one lane."""
        values = {} if self.column is None else {self.column: as_expr(lane or 0)}
        names = {**self.names, **{k: v.format(lane=lane or 0) for k, v in self.tiles.items()}}
        flat = c_expr(self.flat.substitute(values), names)
        pairs = [(e.substitute(values), n.substitute(values)) for e, n in self.bounds]
        return flat, condition(pairs, names)

    def split(self) -> tuple[list[Pair], list[Pair]] | None:
        """Bounds that all lanes share, and those that cut lanes off at the end.

        None when some bound does neither (a negative start, a stride, a looked-up index).
        """
        shared: list[Pair] = []
        cutting: list[Pair] = []
        for e, n in self.bounds:
            looked_up = any(s.name in self.tiles for s in e.symbols() | n.symbols())
            if self.column is None or self.column not in e.symbols() | n.symbols():
                if looked_up:
                    return None
                shared.append((e, n))
            elif looked_up or self.column in n.symbols() or e.coefficient(self.column) != 1:
                return None
            elif not is_at_least(e, 0):
                return None
            else:
                cutting.append((e, n))
        return shared, cutting

    def count(self, shared: Sequence[Pair], cutting: Sequence[Pair]) -> str:
        """How many lanes are inside, in C (at most 0 for none, possibly above all)."""
        assert self.column is not None, "only vectors are cut"
        rest = [n - e.substitute({self.column: 0}) for e, n in cutting]
        text = c_expr(rest[0], self.names) if rest else str(self.lanes)
        for other in rest[1:]:
            text = f"to_min({text}, {c_factor(other, self.names)})"
        holds = condition(shared, self.names)
        return f"{holds} ? {text} : 0" if holds else text


def pruned(bounds: Sequence[Pair]) -> tuple[Pair, ...]:
    """Bounds without those that always hold."""
    return tuple((e, n) for e, n in bounds if not (is_at_least(e, 0) and is_less(e, n)))


def condition(pairs: Sequence[Pair], names: Mapping[str, str]) -> str:
    """All of ``0 <= e < n`` in C, without the halves that always hold; empty for none."""
    parts: list[str] = []
    for e, n in pairs:
        if not is_at_least(e, 0):
            parts.append(f"{c_factor(e, names)} >= 0")
        if not is_less(e, n):
            parts.append(f"{c_factor(e, names)} < {c_factor(n, names)}")
    return " && ".join(parts)


def load_scalar(a: Access, fill: float) -> str:
    """One element as a carrier scalar."""
    flat, holds = a.at(None)
    element = _widened(f"{a.pointer}[{flat}]", a.dtype)
    return f"({holds} ? {element} : {literal(fill, carrier(a.dtype))})" if holds else element


def load_quad(a: Access) -> str:
    """The neighbours along the columns that fill an i32; those outside of bounds are 0."""
    assert a.stride == 1, "what a dot sums lies side by side"
    flat, split = a.at(0)[0], a.split()
    assert split is not None, "only the end of a run is cut"
    shared, cutting = split
    if not shared and not cutting:
        return f"to_load_quad({a.pointer} + {flat})"
    size = "" if a.dtype.bytes == 1 else f"{a.dtype.bytes} /* bytes */ * "
    count = a.count(shared, cutting)
    return f"to_load_quad_n({a.pointer} + {flat}, {f'{size}({count})' if size else count})"


def load_vector(a: Access, fill: float) -> str:
    """One vector of the carrier type."""
    t, split, stride = c_type(a.dtype), a.split(), a.stride
    if split is not None and stride is not None:
        shared, cutting = split
        assert a.column is not None, "a stride needs a column lane"
        base = c_expr(a.flat.substitute({a.column: 0}), a.names)
        if stride == 1 and not shared and not cutting:
            return f"v_load_{t}({a.pointer} + {base})"
        if stride == 1 and (fill == 0 or t == "f32"):
            count = a.count(shared, cutting)
            if fill == 0:
                return f"v_load_n_{t}({a.pointer} + {base}, {count})"
            return f"to_load_fill_f32({a.pointer} + {base}, {count}, {literal(fill, a.dtype)})"
        if not shared and not cutting and not is_stored_narrow(a.dtype):
            return f"v_gather_{t}({a.pointer} + {base}, {c_expr(stride, a.names)})"
    elements: list[str] = []
    for i in range(a.lanes):
        flat, holds = a.at(i)
        element = _widened(f"{a.pointer}[{flat}]", a.dtype)
        other = literal(fill, carrier(a.dtype))
        elements.append(f"{holds} ? {element} : {other}" if holds else element)
    return f"(v_{carrier(a.dtype).name}){{{', '.join(elements)}}}"


def store_vector(a: Access, value: str) -> list[str]:
    """Statements that store one vector of the carrier type."""
    t, split, stride = c_type(a.dtype), a.split(), a.stride
    if split is not None and stride == 1:
        shared, cutting = split
        assert a.column is not None, "a stride needs a column lane"
        base = c_expr(a.flat.substitute({a.column: 0}), a.names)
        if not shared and not cutting:
            return [f"v_store_{t}({a.pointer} + {base}, {value});"]
        return [f"v_store_n_{t}({a.pointer} + {base}, {value}, {a.count(shared, cutting)});"]
    return [_store_lane(a, value, i) for i in range(a.lanes)]


def store_scalar(a: Access, value: str) -> list[str]:
    """Statements that store lane 0 of a vector as one element."""
    return [_store_lane(a, value, 0)]


def _store_lane(a: Access, value: str, lane: int) -> str:
    flat, holds = a.at(lane)
    element = f"v_lane_{carrier(a.dtype).name}({value}, {lane})"
    if is_stored_narrow(a.dtype):
        element = f"s_{a.dtype.name}_from_f32({element})"
    statement = f"{a.pointer}[{flat}] = {element};"
    return f"if ({holds}) {statement}" if holds else statement


def _widened(element: str, dtype: DType) -> str:
    return f"s_f32_from_{dtype.name}({element})" if is_stored_narrow(dtype) else element


def substitute_lanes(value: Expr, row: int, column: int) -> Expr:
    """The expression at a row of the tile and a vector that begins at a column."""
    table: dict[Symbol, Expr] = {}
    for s in value.symbols():
        axis = lane_axis(s)
        if axis == 0:
            table[s] = as_expr(row)
        elif axis == 1 and column:
            table[s] = Expr({(s,): 1}) + column
    return value.substitute(table)
