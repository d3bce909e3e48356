"""Group operators into kernels, so that what one computes is read by the next from registers.

Operators are taken in order; each joins the groups of its operands where that is allowed, and
the joined group then runs where its last operator stood. A group has at most one *root* (a
product, a convolution, a norm, ...); pointwise operators and views gather around it:

* before a root as its prologue, when they are read by nothing else;
* after a root as its epilogue, when they have its shape.

Joining is allowed when nobody else needs a value of the group earlier than the joined group
runs; values that others need later become further results of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.numeric import is_byte
from tapeout.ir.op import NNOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.source import BindDimsOp, ConstantOp, DimValuesOp, IotaOp, WeightOp
from tapeout.ir.ops.structure import IfOp, LoopOp, ReturnOp
from tapeout.ir.ops.views import ExpandOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from tapeout.ir.scalars import SCALARS
from tapeout.ir.types import spec

POINTWISE = (MapOp, ConvertOp)
VIEWS = (TransposeOp, ExpandOp, SliceOp, PadOp, GatherOp)
# Views that a root's strategy can store through, when they end a kernel.
MOVES = (TransposeOp, PadOp)
# Cloned into every kernel that reads them: they cost less than a load.
CHEAP = (ConstantOp, IotaOp, DimValuesOp)
# Not kernels: they run as steps of the program, or are free.
STEPS = (WeightOp, BindDimsOp, IfOp, LoopOp, ReturnOp, ReshapeOp)
MOST_RESULTS = 4
FIXED = (ConstantOp, WeightOp)


@dataclass(eq=False)
class Group:
    """Operators of one kernel in order; ``root`` is the heavy one, None for pointwise kernels."""

    ops: list[Operation] = field(default_factory=list[Operation])
    root: Operation | None = None

    def inside(self, op: Operation) -> bool:
        """Whether the operator belongs to the group."""
        return op in self.ops


def form_groups(block: Block, roots: Roots) -> list[Group]:
    """Groups of one block, each in the order of the block; the list is in order of last ops."""
    return _Former(block, roots).run()


@dataclass(frozen=True)
class Roots:
    """Which roots accept what: a strategy that cannot fuse names its operator in neither.

    ``epilogue``: operators whose result may be mapped in registers. ``prologue``: those whose
    operands may be computed on the fly. ``views``: those whose operands may be views only.
    ``moved``: those that can store through a transpose or a zero pad of their result.
    """

    epilogue: tuple[type[Operation], ...]
    prologue: tuple[type[Operation], ...]
    views: tuple[type[Operation], ...] = ()
    moved: tuple[type[Operation], ...] = ()


class _Former:
    def __init__(self, block: Block, roots: Roots) -> None:
        self.block, self.roots = block, roots
        self.order = {op: i for i, op in enumerate(block.ops)}
        self.group: dict[Operation, Group] = {}

    def run(self) -> list[Group]:
        for op in self.block.ops:
            if isinstance(op, STEPS) or (isinstance(op, CHEAP) and not is_stored(op)):
                continue
            self.place(op)
        unique = list(dict.fromkeys(self.group.values()))
        return sorted(unique, key=lambda g: self.order[g.ops[-1]])

    def place(self, op: Operation) -> None:
        """Put an operator into a group, joined with those of its operands that allow it."""
        joined = Group([op], None if isinstance(op, POINTWISE + VIEWS) else op)
        for producer in self.producers(op):
            other = self.group[producer]
            if other is joined or other in (self.group.get(o) for o in joined.ops):
                continue
            if self.may_join(other, joined, op) and self.nobody_earlier(other, joined, op):
                joined = self.merge(other, joined)
        for member in joined.ops:
            self.group[member] = joined

    def merge(self, a: Group, b: Group) -> Group:
        ops = sorted({*a.ops, *b.ops}, key=lambda o: self.order[o])
        return Group(ops, a.root or b.root)

    def producers(self, op: Operation) -> list[Operation]:
        """Grouped producers of operands, those with a root first: theirs is the gain."""
        found = [v.owner for v in op.operands if v.owner in self.group]
        unique = [o for o in dict.fromkeys(found) if isinstance(o, Operation)]
        return sorted(unique, key=lambda o: self.group[o].root is None)

    def may_join(self, before: Group, after: Group, op: Operation) -> bool:
        """Whether the kinds of two groups go together in one kernel."""
        if before.root is not None and after.root is not None:
            return False
        if isinstance(op, GatherOp) and any(u is op.x.owner for u in before.ops):
            return False  # the table of a look-up lies in memory
        if before.root is not None and decodes_what_is_stored(op):
            return False
        if before.root is not None and isinstance(op, MOVES):
            return self.is_last_move(before, op)
        if before.root is not None:
            same = spec(before.root.results[0]).dims == spec(op.results[0]).dims
            return (
                isinstance(op, POINTWISE) and same and isinstance(before.root, self.roots.epilogue)
            )
        if after.root is not None and isinstance(op, POINTWISE):
            # The operator is an epilogue already; what feeds it must be as cheap as a load.
            return self.is_cheap(before, op) and self.only_pointwise(before)
        if isinstance(after.root, self.roots.views):
            return all(isinstance(o, VIEWS) for o in before.ops) and self.feeds_once(before, op)
        if after.root is not None:
            return isinstance(after.root, self.roots.prologue) and self.feeds_once(before, op)
        return self.feeds_once(before, op) or self.is_cheap(before, op)

    def is_last_move(self, before: Group, op: Operation) -> bool:
        """Whether the group's only result is read by this move alone, and it has none yet."""
        alone = all(
            u.operation is op or u.operation in before.ops
            for o in before.ops
            for r in o.results
            for u in r.uses
        )
        zero = not isinstance(op, PadOp) or (op.value is None and op.mode.data == "constant")
        after_root = before.ops[before.ops.index(before.root) :] if before.root else []
        unmoved = not any(isinstance(o, VIEWS) for o in after_root)
        return isinstance(before.root, self.roots.moved) and alone and zero and unmoved

    def only_pointwise(self, group: Group) -> bool:
        return all(isinstance(o, POINTWISE) for o in group.ops)

    def feeds_once(self, group: Group, op: Operation) -> bool:
        """Whether every element of the group's values is used about once by ``op``."""
        result = (
            spec(op.operands[0]) if not isinstance(op, POINTWISE + VIEWS) else spec(op.results[0])
        )
        values = [r for o in group.ops for r in o.results if any(u.operation is op for u in r.uses)]
        return all(spec(v).size == result.size or isinstance(op, (SliceOp, PadOp)) for v in values)

    def is_cheap(self, group: Group, op: Operation) -> bool:
        """Whether computing the group again for every element of ``op`` costs next to nothing."""
        flops = [SCALARS[o.fn.data].flops for o in group.ops if isinstance(o, MapOp)]
        same = all(
            spec(r).dims == spec(op.results[0]).dims
            for o in group.ops
            for r in o.results
            if any(u.operation is op for u in r.uses)
        )
        return same or (sum(flops) <= 2 and len(group.ops) <= 3)

    def nobody_earlier(self, group: Group, joined: Group, op: Operation) -> bool:
        """Whether every reader of the group outside the joined one comes after ``op``."""
        place, outside = self.order[op], 0
        for member in group.ops:
            for result in member.results:
                readers = [u.operation for u in result.uses if u.operation not in group.ops]
                later = [r for r in readers if r not in joined.ops]
                for reader in later:
                    top = self.ancestor(reader)
                    if top is None or self.order[top] < place:
                        return False
                outside += bool(later)
        return outside == 0 or (outside < MOST_RESULTS and self.shares_shape(group, op))

    def shares_shape(self, group: Group, op: Operation) -> bool:
        """Further results must be swept by the same loops: all of one shape."""
        dims = spec(op.results[0]).dims
        if isinstance(op, VIEWS) or not isinstance(op, POINTWISE):
            return False
        return all(
            spec(r).dims == dims for o in group.ops for r in o.results if self.escapes(r, group)
        )

    def escapes(self, value: SSAValue, group: Group) -> bool:
        return any(u.operation not in group.ops for u in value.uses)

    def ancestor(self, op: Operation) -> Operation | None:
        """The operator of this block that holds ``op``."""
        while op not in self.order:
            parent = op.parent_op()
            if parent is None:
                return None
            op = parent
        return op


def is_stored(op: Operation) -> bool:
    """Whether indices have to lie in memory, since a step of the program reads them."""
    return isinstance(op, IotaOp) and any(isinstance(u.operation, STEPS) for u in op.y.uses)


def decodes_what_is_stored(op: Operation) -> bool:
    """Whether bytes become wide again that lie in memory: who needs that reads the bytes.

    They do where others read them too, or where what they stand for meets another tensor.
    """
    if not isinstance(op, ConvertOp) or not is_byte(spec(op.x).dtype):
        return False
    return not op.x.has_one_use() or _meets_another(op.y)


def _meets_another(value: SSAValue) -> bool:
    """Whether the maps that read ``value``, one after the other, end in a map of two tensors."""
    while value.has_one_use():
        (use,) = value.uses
        op = use.operation
        if not isinstance(op, MapOp):
            return False
        others = [x for x in op.xs if x is not value and not isinstance(x.owner, FIXED)]
        if others:
            return any(spec(x).dims == spec(op.y).dims for x in others)
        value = op.y
    return False


def external_operands(group: Group) -> list[SSAValue]:
    """Values that a group reads from outside, in order of first use; cheap sources excluded."""
    own = set(group.ops)
    found: list[SSAValue] = []
    for op in group.ops:
        for value in op.operands:
            owner = value.owner
            if owner in own or (isinstance(owner, CHEAP) and _is_scalar_source(owner)):
                continue
            if value not in found:
                found.append(value)
    return found


def escaping_results(group: Group) -> list[SSAValue]:
    """Results of a group that others read."""
    own = set(group.ops)
    return [
        r for op in group.ops for r in op.results if any(u.operation not in own for u in r.uses)
    ]


def _is_scalar_source(op: Operation) -> bool:
    """A literal of several elements lies in memory, as a weight does."""
    return not isinstance(op, ConstantOp) or op.value.data.array.size == 1


def kinds(group: Group) -> Sequence[str]:
    """Operator names of a group, for kernel names and reports."""
    return [
        op.fn.data if isinstance(op, MapOp) else op.name.removeprefix("nn.")
        for op in group.ops
        if isinstance(op, NNOp)
    ]
