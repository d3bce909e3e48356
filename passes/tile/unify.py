"""One name per size: what a kernel relies on being equal is written alike before it is lowered.

Strategies compare sizes as they are written. In ``[S, D] + [T, D]`` the sizes ``S`` and ``T`` are
two, but the kernel runs only where a guard found them equal, so inside of it both are one.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.ir import SSAValue
from xdsl.rewriter import Rewriter

from tapeout.ir.expr import Expr, Symbol
from tapeout.ir.guards import block_guards, equalities
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.types import ExprsAttr, TensorType, spec
from tapeout.passes.tile.kernel_io import decided


def unified(kernel: KernelOp) -> KernelOp:
    """The kernel with equal sizes written alike; itself when they are already."""
    late = set(decided(kernel))
    relied_on = block_guards(kernel.body.block.ops)
    # What the kernel itself decides is not known when it begins.
    equal = equalities(g for g in relied_on if not late & set(g.symbols))
    if not equal:
        return kernel
    copy = kernel.clone()
    for argument in copy.body.block.args:
        _retype(argument, equal)
    for op in copy.body.block.ops:
        for result in op.results:
            _retype(result, equal)
        for name, attribute in op.properties.items():
            if isinstance(attribute, ExprsAttr):
                op.properties[name] = ExprsAttr(tuple(e.substitute(equal) for e in attribute.data))
    return copy


def _retype(value: SSAValue, equal: Mapping[Symbol, Expr]) -> None:
    have = spec(value)
    want = TensorType(have.with_dims(d.substitute(equal) for d in have.dims))
    Rewriter.replace_value_with_new_type(value, want)
