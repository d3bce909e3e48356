"""What must hold between the sizes of a run for a module to mean anything, and code to be safe.

An operator's guards are what its ``infer`` assumes (:mod:`tapeout.ir.assumptions`), that no size
of a result is negative, and that nothing is divided by 0. Whoever runs a module checks them when
the symbols have values: the evaluator before each operator, compiled code when its inputs are
bound, or, where data decides a symbol or a branch, right before the step that relies on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from xdsl.ir import Operation, SSAValue

from tapeout.ir.assumptions import Guard, listening, may_be_at_least, may_equal
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Call, Expr, Symbol, as_symbol
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import CallOp, EntryOp, IfOp, KernelOp, LoopOp, ReturnOp
from tapeout.ir.types import ExprsAttr, spec, specs

__all__ = ["Guard", "block_guards", "equalities", "guards", "minimal", "op_guards", "unmet"]


def guards(module: Module, entry: str = "main") -> list[Guard]:
    """All guards of an entry and the kernels that it calls, in order, none that another implies.

    Those of operators inside of branches and loops are among them: they need to hold only where
    the run comes by.
    """
    op = next(e for e in module.entries() if e.sym_name.data == entry)
    return minimal(_walk(op, module.kernels()))


def _walk(entry: EntryOp, kernels: dict[str, KernelOp]) -> Iterator[Guard]:
    for op in entry.walk():
        if isinstance(op, CallOp):
            yield from block_guards(kernels[op.callee.data].body.block.ops)
        else:
            yield from op_guards(op)


def block_guards(ops: Iterable[Operation]) -> Iterator[Guard]:
    """Guards of operators and of those inside of them, in order."""
    for outer in ops:
        for op in outer.walk():
            yield from op_guards(op)


def op_guards(op: Operation) -> tuple[Guard, ...]:
    """What one operator relies on, those inside of it left out; an empty tuple for most.

    For ``nn.if`` and ``nn.loop`` it is that what comes out of a region has the declared sizes.
    """
    if isinstance(op, NNOp):
        return tuple(_heard(_title(op), partial(_infer, op), list(_expressions(op))))
    if isinstance(op, LoopOp):
        pairs = list(zip(op.carried, op.body.block.args[2:], strict=True))
        return tuple(_heard("loop", partial(_same_sizes, pairs)))
    parent = op.parent_op() if isinstance(op, ReturnOp) else None
    if isinstance(op, ReturnOp) and isinstance(parent, IfOp | LoopOp):
        title = "the results of a branch" if isinstance(parent, IfOp) else "the results of a loop"
        return tuple(_heard(title, partial(_same_sizes, _leaving(op, parent))))
    return ()


def minimal(found: Iterable[Guard]) -> list[Guard]:
    """Guards without repetitions, and without those that equalities before them prove."""
    kept: dict[Guard, Guard] = {}
    equal: dict[Symbol, Expr] = {}
    for each in found:
        reduced = replace(each.substitute(equal), where="", fix="")
        if reduced not in kept and not reduced.proved():
            kept[reduced] = each
            _learn(equal, reduced)
    return list(kept.values())


def equalities(found: Iterable[Guard]) -> dict[Symbol, Expr]:
    """What symbols equal where all guards hold; no value speaks of a symbol that has one."""
    equal: dict[Symbol, Expr] = {}
    for each in found:
        _learn(equal, each.substitute(equal))
    return equal


def _learn(equal: dict[Symbol, Expr], each: Guard) -> None:
    solved = _solved(each) if each.relation == "==" else None
    if solved is not None:
        symbol, other = solved
        for known, value in equal.items():
            equal[known] = value.substitute({symbol: other})
        equal[symbol] = other


def _solved(each: Guard) -> tuple[Symbol, Expr] | None:
    """An equality as a symbol and what it equals, when it stands alone or by itself in a sum."""
    difference = each.left - each.right
    alone = [s for s in map(as_symbol, (each.left, each.right)) if s is not None]
    for symbol in (*alone, *difference.symbols()):
        factor = difference.coefficient(symbol)
        if factor is not None and factor.constant in (1, -1):
            sign = factor.constant
            return symbol, (difference - Expr({(symbol,): sign})) * -sign
    return None


def unmet(broken: Guard, values: Mapping[str, int]) -> CompileError:
    """E0208: a guard does not hold under values of symbols."""
    got = ", ".join(f"{s} = {values[s.name]}" for s in broken.symbols)
    facts = [("needed", broken.text), ("by", broken.where), ("got", got)]
    return CompileError("E0208", "the sizes do not fit together", facts, broken.fix)


def _heard(where: str, assume: Callable[[], None], values: Sequence[Expr] = ()) -> Iterator[Guard]:
    """What is assumed, with the divisors in it first: they are checked before they divide."""
    with listening() as heard:
        assume()
    sides = [e for g in heard for e in (g.left, g.right)]
    with listening() as divisors:
        for divisor in _divisors([*values, *sides]):
            may_be_at_least(divisor, 1)
    for each in dict.fromkeys([*divisors, *heard]):
        yield Guard(each.relation, each.left, each.right, where, each.fix)


def _infer(op: NNOp) -> None:
    op.inferred()
    for result in specs(op.results):
        for size in result.dims:
            may_be_at_least(size, 0)


def _expressions(op: NNOp) -> Iterator[Expr]:
    """Every expression that running an operator computes."""
    for result in specs(op.results):
        yield from result.dims
    for attribute in op.properties.values():
        if isinstance(attribute, ExprsAttr):
            yield from attribute.data


def _divisors(values: Iterable[Expr]) -> Iterator[Expr]:
    """Divisors inside of expressions that are no numbers, the innermost first."""
    for value in values:
        for monomial, _ in value.terms:
            for atom in monomial:
                if isinstance(atom, Call):
                    yield from _divisors(atom.args)
                    if atom.fn in ("floordiv", "mod") and atom.args[1].constant is None:
                        yield atom.args[1]


def _title(op: NNOp) -> str:
    return op.fn.data if isinstance(op, MapOp) else op.name.removeprefix("nn.")


def _leaving(end: ReturnOp, parent: IfOp | LoopOp) -> list[tuple[SSAValue, SSAValue]]:
    """What a region returns, and what it becomes: a result, or what is carried on."""
    if isinstance(parent, IfOp):
        return list(zip(end.values, parent.ys, strict=True))
    return list(zip(end.values[1:], parent.ys, strict=True))


def _same_sizes(pairs: Iterable[tuple[SSAValue, SSAValue]]) -> None:
    """Values take each other's place in memory; of a stacked result a value is one slice."""
    for have, want in pairs:
        dims = spec(want).dims
        for a, b in zip(spec(have).dims, dims[len(dims) - spec(have).rank :], strict=True):
            possible = may_equal(a, b)
            assert possible, f"{spec(have).dims} becomes {dims}"
