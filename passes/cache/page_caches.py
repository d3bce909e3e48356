"""Keys and values of the past, from inputs and outputs into pages that sessions keep."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.builder import Builder
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.decoding import TOKENS, Layer, attend, by_token, places
from tapeout.ir.dtypes import i64
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import ONE, Expr, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import ConvertOp, MapOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.ops.views import ConcatOp, SliceOp
from tapeout.ir.types import ExprsAttr, Spec, StrsAttr, TensorType, spec
from tapeout.passes.cache.visible import window_of
from tapeout.passes.manager import Pass
from tapeout.passes.match import made_by
from tapeout.passes.rewrite import Edit, drive
from tapeout.passes.simplify.positions import positions

IDS = "input_ids"


@dataclass(frozen=True)
class PageCaches(Pass):
    """Turn a step of generation with past keys and values into one that keeps them in pages.

    ``input_ids [1, T]`` and past keys and values ``[1, G, S, D]`` in, logits ``[1, T, V]`` and
    grown keys and values out becomes the program of :mod:`ir.decoding`: ``ids``, ``positions``,
    ``rows`` (the tokens whose logits are wanted) and places in, ``logits [R, V]`` out. Tokens may
    then be of any sequences. Attentions have to be recomposed and masks known.

    Saves copying keys and values from run to run.
    Errors: E0408 for what reads the past in another way than attention does.
    """

    name = "page-caches"

    def apply(self, module: Module) -> None:
        """Change the one entry."""
        (entry,) = module.entries()
        _Paging(module, entry).run()


@dataclass
class _Paging:
    module: Module
    entry: EntryOp
    values: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def run(self) -> None:
        block = self.entry.body.block
        self.edit = Edit(self.module)
        before = tuple(block.args)
        named = dict(zip(self.entry.inputs.data, before, strict=True))
        ids = named[IDS]
        self.tokens: Expr = spec(ids).dims[1]
        attentions = [op for op in block.ops if isinstance(op, AttentionOp)]
        caches = [self.cache_of(op) for op in attentions]
        if not caches:
            raise _refusal("no attention was found in the graph")
        self.past: Expr = spec(caches[0].keys.xs[0]).dims[2]
        layers = [each.layer(i) for i, each in enumerate(caches)]
        windows = [self.window(op) for op in attentions]
        logits = self.logits()
        self.begin(block, layers, windows)
        for i, (op, cache) in enumerate(zip(attentions, caches, strict=True)):
            self.attend(i, op, cache, windows[i])
        self.place_tokens(block, ids)
        self.finish(block, layers, logits)
        drive(self.module, ())
        for argument in before:
            self.check_unused(argument)
            block.erase_arg(argument)
        self.check_past(block)

    def cache_of(self, op: AttentionOp) -> _Cache:
        """Past and new keys and values of an attention."""
        return _Cache(*(self.joined(x) for x in (op.k, op.v)))

    def joined(self, value: SSAValue) -> ConcatOp:
        """Past keys or values of an input, and new ones."""
        found = made_by(value, ConcatOp)
        if found is None or found.axis.data % 4 != 2 or len(found.xs) != 2:
            raise _refusal("an attention's keys or values are not past ones and new ones")
        if not isinstance(found.xs[0], BlockArgument):
            raise _refusal("what comes before an attention's new keys is no input")
        return found

    def logits(self) -> SSAValue:
        """The one output that is no grown cache, ``[1, T, V]``."""
        found: list[tuple[str, SSAValue]] = []
        for name, value in zip(self.entry.outputs.data, self.entry.returned, strict=True):
            joined = made_by(value, ConcatOp)
            if joined is None or not isinstance(joined.xs[0], BlockArgument):
                found.append((name, value))
        names = ", ".join(name for name, _ in found)
        if len(found) != 1:
            raise _refusal("the model has not one output beside its cache", ("outputs", names))
        dims = spec(found[0][1]).dims
        if len(dims) != 3 or dims[:2] != (as_expr(1), self.tokens):
            facts = (("output", names), ("shape", dims))
            raise _refusal("the output is not one line for each token", *facts)
        return found[0][1]

    def window(self, op: AttentionOp) -> int:
        """How many keys up to its own a query sees, 0 for all."""
        window = window_of(op, self.past, self.edit_before(op))
        if window is None:
            raise _refusal("an attention's mask is neither causal nor a window")
        return window

    def begin(self, block: Block, layers: list[Layer], windows: list[int]) -> None:
        """Give the entry its new inputs and states, behind the old ones."""
        row = (self.tokens,)
        wanted = symbol("R", 1, TOKENS)
        states = [each for layer in layers for each in layer.states]
        taken = [("ids", Spec(row, i64)), ("positions", Spec(row, i64))]
        taken += [("rows", Spec((wanted,), i64))]
        taken += places(self.tokens, windows, self.context(block))
        for name, its in [*taken, *states]:
            self.values[name] = block.insert_arg(TensorType(its), len(block.args))
        properties = self.entry.properties
        properties["inputs"] = StrsAttr(tuple(self.values))
        properties["outputs"] = StrsAttr(("logits", *(name for name, _ in states)))
        properties["states"] = StrsAttr(tuple(name for name, _ in states))

    def context(self, block: Block) -> int | None:
        """How many tokens the tables have that are read at positions; None without such."""
        found: list[Expr] = []
        for op in block.ops:
            if isinstance(op, GatherOp):
                at = positions(op.indices, self.edit_before(op))
                if at is not None and not self.past.symbols().isdisjoint(at.base.symbols()):
                    axis: int = op.axis.data
                    found.append(spec(op.x).dims[axis])
            elif isinstance(op, SliceOp):
                starts: tuple[Expr, ...] = op.starts.data
                moved = [a for a, s in enumerate(starts) if (s - self.past).constant is not None]
                found += [spec(op.x).dims[a] for a in moved]
        return min((n.constant for n in found if n.constant is not None), default=None)

    def attend(self, number: int, op: AttentionOp, cache: _Cache, window: int) -> None:
        """Put attention on pages in the place of one on joined keys."""
        emit = _before(op)
        tokens = (op.q, cache.keys.xs[1], cache.values.xs[1])
        q, k, v = (by_token(emit, x) for x in tokens)
        scale, softcap = op.scale.data, op.softcap.data
        made = attend(
            emit, self.values, number, (q, k, v), scale=scale, softcap=softcap, window=window
        )
        back = emit.reshape(emit.transpose(made, (1, 0, 2)), spec(op.y).dims)
        op.y.replace_all_uses_with(back)

    def place_tokens(self, block: Block, ids: SSAValue) -> None:
        """Have everything that counts from the past read the tokens' own positions."""
        start = Emit(Builder(InsertPoint.at_start(block)))
        kind = spec(ids).dtype
        ids.replace_all_uses_with(
            start.convert(start.reshape(self.values["ids"], spec(ids).dims), kind)
        )
        for op in list(block.ops):
            emit = _before(op)
            if isinstance(op, SliceOp):
                self.place_slice(emit, op)
            for value in op.results:
                placed = self.placed(emit, value, self.edit_before(op))
                if placed is not None:
                    value.replace_all_uses_with(placed)

    def placed(self, emit: Emit, value: SSAValue, edit: Edit) -> SSAValue | None:
        """The positions of the tokens for a value that is ``past + i + c`` along one axis."""
        found = positions(value, edit)
        if found is None or self.past.symbols().isdisjoint(found.base.symbols()):
            return None
        dims, along = spec(value).dims, [a for a, step in enumerate(found.steps) if step]
        behind = (found.base - self.past).constant
        if behind is None:
            return None
        if self.tokens == ONE and all(d == ONE for d in dims):
            line = emit.convert(self.moved(emit, behind), spec(value).dtype)
            return emit.reshape(line, dims)
        if len(along) != 1 or found.steps[along[0]] != 1:
            return None
        if dims[along[0]] != self.tokens:
            return None
        line = emit.convert(self.moved(emit, behind), spec(value).dtype)
        ones = tuple(self.tokens if a == along[0] else as_expr(1) for a in range(len(dims)))
        line = emit.reshape(line, ones)
        return line if ones == dims else emit.expand(line, dims)

    def place_slice(self, emit: Emit, op: SliceOp) -> None:
        """Rows of a table from the past on are those at the tokens' positions."""
        for axis, (start, size) in enumerate(zip(op.starts.data, op.sizes.data, strict=True)):
            behind = (start - self.past).constant
            if behind is None or size != self.tokens or op.steps.data[axis] != 1:
                continue
            starts, sizes = list(op.starts.data), list(op.sizes.data)
            starts[axis], sizes[axis] = as_expr(0), spec(op.x).dims[axis]
            rest = emit.op(
                SliceOp, op.x, starts=tuple(starts), sizes=tuple(sizes), steps=op.steps.data
            )
            op.y.replace_all_uses_with(emit.op(GatherOp, rest, self.moved(emit, behind), axis=axis))
            return

    def moved(self, emit: Emit, behind: int) -> SSAValue:
        line = self.values["positions"]
        return emit.map("add", line, emit.constant(behind, i64)) if behind else line

    def finish(self, block: Block, layers: list[Layer], logits: SSAValue) -> None:
        """Return the logits of the rows that are asked for, and the states."""
        last = block.last_op
        assert isinstance(last, ReturnOp), "an entry ends in nn.return"
        emit = _before(last)
        picked = _Rows(emit, self.tokens, self.values["rows"]).of(logits)
        picked = emit.reshape(picked, spec(picked).dims[1:])
        kept = [self.values[name] for layer in layers for name, _ in layer.states]
        block.erase_op(last)
        block.add_op(ReturnOp([picked, *kept]))

    def edit_before(self, op: Operation) -> Edit:
        self.edit.at(op)
        return self.edit

    def check_unused(self, argument: SSAValue) -> None:
        if argument.uses.get_length():
            reader = next(iter(argument.uses)).operation.name
            raise _refusal("an input is read after its use was moved", ("reader", reader))

    def check_past(self, block: Block) -> None:
        """Nothing may count what came before by itself: the tokens are of many sequences."""
        (past,) = self.past.symbols()
        for op in block.walk():
            sizes = [s for v in op.results if isinstance(v.type, TensorType) for s in spec(v).dims]
            for attribute in op.properties.values():
                sizes += attribute.data if isinstance(attribute, ExprsAttr) else ()
            if any(past in size.symbols() for size in sizes):
                raise _refusal(
                    "something else than attention and positions depends on the past",
                    ("operator", op.name),
                )


@dataclass(frozen=True)
class _Cache:
    """``concat(past, new)`` of an attention's keys and of its values."""

    keys: ConcatOp
    values: ConcatOp

    def layer(self, number: int) -> Layer:
        """What it caches."""
        k, v = spec(self.keys.xs[1]), spec(self.values.xs[1])
        sizes = [d.constant for d in (k.dims[1], k.dims[3], v.dims[3])]
        if None in sizes:
            raise _refusal("heads of a cache have no fixed size", ("keys", k.dims))
        groups, depth, depth_v = (int(s) for s in sizes if s is not None)
        return Layer(number, groups, depth, depth_v, Spec((), k.dtype))


@dataclass
class _Rows:
    """Values ``[1, T, ...]`` at the tokens that are asked for, computed for them alone."""

    emit: Emit
    tokens: Expr
    rows: SSAValue
    made: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])

    def of(self, value: SSAValue) -> SSAValue:
        """``value[:, rows]``, through what works token by token up to the last product."""
        dims = spec(value).dims
        if len(dims) != 3 or dims[1] != self.tokens:
            return value
        if value not in self.made:
            self.made[value] = self._made(value)
        return self.made[value]

    def _made(self, value: SSAValue) -> SSAValue:
        match value.owner:
            case MapOp() as op:
                return self.emit.map(op.fn.data, *(self.of(x) for x in op.xs))
            case ConvertOp() as op:
                return self.emit.op(ConvertOp, self.of(op.x), **op.attrs())
            case MatmulOp() as op if spec(op.a).dims[:-1] == spec(value).dims[:-1]:
                a = self.emit.op(GatherOp, op.a, self.rows, axis=1)
                return self.emit.op(MatmulOp, a, op.b, **op.attrs())
            case _:
                return self.emit.op(GatherOp, value, self.rows, axis=1)


def _before(op: Operation) -> Emit:
    return Emit(Builder(InsertPoint.before(op)))


def _refusal(why: str, *facts: tuple[str, object]) -> CompileError:
    return CompileError(
        "E0408",
        f"the cache of this decoder cannot be kept in pages: {why}",
        facts,
        "compile with --cache inputs: past keys and values stay inputs and outputs",
    )
