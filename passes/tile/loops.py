"""Loops that several strategies open: parallel ones over leading axes, vectors along the last."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from tapeout.ir.expr import ZERO, Expr
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, lane
from tapeout.passes.tile.pull import Pull

Places = dict[int, Expr]
Body = Callable[[Places, int, Bounds], None]


@contextmanager
def parallel(b: TileBuilder, pull: Pull, dims: Mapping[int, Expr]) -> Generator[Places]:
    """Parallel loops over axes; gives the index along each. There is always at least one loop."""
    with ExitStack() as stack:
        wide = {axis: size for axis, size in dims.items() if size != 1}
        places = {axis: ZERO for axis in dims}
        for axis, size in wide.items():
            places[axis] = stack.enter_context(b.parallel("p", size)).iv
        if not wide:
            stack.enter_context(b.parallel("p", 1))
        stack.enter_context(pull.scope())
        yield places


def lanes_along(
    b: TileBuilder,
    pull: Pull,
    dims: Sequence[Expr],
    axes: Sequence[int],
    width: int,
    body: Body,
) -> None:
    """Independent work at every place of ``axes``: loops over all but the last, vectors along it.

    ``body(places, width, bounds)`` gets the index along each axis, and the bounds of a vector
    that the axis cuts. Without axes it runs once, with one lane.
    """
    if not axes:
        with parallel(b, pull, {}):
            body({}, 1, ())
        return
    *outer, last = axes
    size = dims[last]
    if size == 1:
        with parallel(b, pull, {a: dims[a] for a in outer}) as places:
            body({**places, last: ZERO}, 1, ())
        return
    with ExitStack() as stack:
        places = {a: ZERO for a in outer}
        for axis in outer:
            if dims[axis] != 1:
                places[axis] = stack.enter_context(b.parallel("p", dims[axis])).iv
        block = stack.enter_context(b.parallel("j", size, width))
        stack.enter_context(pull.scope())
        column = block.iv + lane(1, width)
        bounds: Bounds = ((column, size),) if (size % width) != 0 else ()
        body({**places, last: column}, width, bounds)
