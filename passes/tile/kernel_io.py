"""What strategies share: a kernel's buffers, its values' dimensions, and loops along one axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import DType
from tapeout.ir.expr import Expr, ExprLike, Symbol, as_expr, as_symbol
from tapeout.ir.numeric import is_byte
from tapeout.ir.op import NNOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, ProgramOp, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.places import accumulator
from tapeout.passes.tile.pull import Pull

__all__ = ["Lowered", "Machine", "Pack", "accumulator", "buffer_spec", "depth", "start", "sweep"]

Array = np.ndarray[Any, Any]
Pack = Callable[[Array], Array]


@dataclass(frozen=True)
class Machine:
    """What a strategy needs to know of the device that it tiles for.

    ``lanes`` elements per vector; ``tile_m`` x ``tile_n`` is the register tile of a product.
    ``pairs``: floats of which one instruction sums two products. Codes of up to ``looked_up_bits``
    are looked up rather than multiplied, for few rows.
    """

    lanes: int
    tile_m: int
    tile_n: int
    l1_bytes: int
    l2_bytes: int
    pairs: frozenset[DType] = frozenset()
    looked_up_bits: int = 0


@dataclass(frozen=True)
class Lowered:
    """A tile program, and for some operands the layout in which it wants their weights.

    ``count`` is there for a kernel whose result sizes its data decides, and runs first. Its
    buffers: the kernel's arguments, any *state* it computes on the way (the order of a sort, the
    chosen boxes), and last ``i64[k]`` with the value of each symbol of :func:`decided`. Its
    ``outputs`` are the state and that vector; no size in it depends on the decided symbols. Its
    name is the kernel's with ``_count`` behind. Then the symbols are bound and the results
    allocated in their exact size, and ``program`` runs: on the kernel's arguments, the state
    (as inputs), and the results.
    """

    program: ProgramOp
    packs: Mapping[int, Pack] = field(default_factory=dict[int, Pack])
    count: ProgramOp | None = None


def decided(kernel: KernelOp) -> list[Symbol]:
    """The symbols that operators of a kernel bind to sizes which their data decides, in order."""
    found: list[Symbol] = []
    for op in kernel.body.block.ops:
        if isinstance(op, NNOp):
            sizes = [as_symbol(op.attrs()[name][0]) for name in op.DECIDES]
            assert None not in sizes, f"{op.name} decides a bare symbol"
            found.extend(size for size in sizes if size is not None)
    return found


def depth(a: SSAValue, b: SSAValue, pairs: Set[DType] = frozenset()) -> int:
    """Steps of ``k`` that one dot of a packed product takes: 4 of bytes, 2 of ``pairs``, else 1.

    The integer units of CPUs sum four neighbouring products of bytes into one i32, and some float
    units two of bf16 into one f32; ``b`` is packed so that these lie side by side, and ``a`` has
    to lie in memory as it is.
    """
    types = {spec(a).dtype, spec(b).dtype}
    if not isinstance(a, BlockArgument):
        return 1
    if all(is_byte(t) for t in types):
        return 4
    return 2 if len(types) == 1 and types <= pairs else 1


def buffer_spec(value: SSAValue) -> BufferSpec:
    """The dense buffer that holds a tensor value."""
    tensor = spec(value)
    return BufferSpec(tensor.dims, tensor.dtype)


def start(
    kernel: KernelOp, title: str, packed: Mapping[int, BufferSpec] | None = None
) -> tuple[TileBuilder, Pull]:
    """A builder with one buffer per argument and result, and a pull over the arguments.

    ``packed``: the buffers of arguments that are laid out anew.
    """
    arguments, packed = kernel.body.block.args, packed or {}
    builder = TileBuilder(
        kernel.sym_name.data,
        title,
        [(f"x{i}", packed.get(i) or buffer_spec(v)) for i, v in enumerate(arguments)],
        [(f"y{i}", buffer_spec(v)) for i, v in enumerate(kernel.returned)],
    )
    return builder, Pull(builder, dict(zip(arguments, builder.inputs, strict=True)))


def sweep(
    builder: TileBuilder,
    pull: Pull,
    name: str,
    lo: ExprLike,
    hi: ExprLike,
    widths: Sequence[int],
    carried: Sequence[Sequence[SSAValue]],
    body: Callable[[Expr, int, Bounds, list[SSAValue]], Sequence[SSAValue]],
) -> list[list[SSAValue]]:
    """Loop along one axis in vectors: the widest while they fit, narrower ones, then a cut one.

    ``widths`` fall; the last is one vector. ``carried[k]`` are the carried tiles of the loop of
    ``widths[k]``. ``body(first, width, bounds, carried)`` gets the bounds of the cut vector.
    """
    lo, hi = as_expr(lo), as_expr(hi)
    results: list[list[SSAValue]] = []
    at = lo
    for k, width in enumerate(widths):
        last = k == len(widths) - 1
        whole = (hi - at) // width * width
        end = hi if last else at + whole
        cut = last and ((hi - at) % width) != 0
        if end == at:
            results.append(list(carried[k]))
            continue
        with builder.loop(name, at, end, width, carried[k]) as loop, pull.scope():
            bounds = ((loop.iv + lane(1, width), hi),) if cut else ()
            loop.next = list(body(loop.iv, width, bounds, loop.carried))
        results.append(loop.results)
        at = end
    return results
