"""Results of alternative blocks brought to common types: what ``nn.if`` returns."""

from collections.abc import Sequence

from tapeout.frontend.onnx.builder import Builder, Scope
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import Expr, ExprLike, bounds, maximum
from tapeout.ir.ops.structure import ReturnOp
from tapeout.ir.types import Spec


def joined(b: Builder, specs: Sequence[Spec]) -> Spec | None:
    """The common type: a size in which they differ is a new symbol. None for other differences."""
    if len({s.dtype for s in specs}) > 1 or len({s.rank for s in specs}) > 1:
        return None
    sizes = zip(*(s.dims for s in specs), strict=True)
    return specs[0].with_dims(_common(b, dims) for dims in sizes)


def _common(b: Builder, dims: Sequence[Expr]) -> Expr:
    same = all(d == dims[0] for d in dims)
    return dims[0] if same else b.symbols.fresh("n", 0, bounds(maximum(*dims))[1])


def bind_to(b: Builder, values: Sequence[Value], specs: Sequence[Spec]) -> list[Value]:
    """The values under the given types, whose symbols get their values here and now."""
    pairs: dict[Expr, ExprLike] = {}
    for value, want in zip(values, specs, strict=True):
        differing = zip(want.dims, value.dims, strict=True)
        pairs |= {w: d for w, d in differing if w != d}
    if pairs:
        b.bind(b.sizes(list(pairs.values())), list(pairs))
    return [b.reshape(v, s.dims) for v, s in zip(values, specs, strict=True)]


def end_branch(b: Builder, scope: Scope, values: Sequence[Value], specs: Sequence[Spec]) -> None:
    """Finish a branch: bind the symbols of the common types and return."""
    with b.into(scope):
        made = bind_to(b, values, specs)
        b.append(ReturnOp([b.ssa(v) for v in made]))
