"""The operators of one function: a tile becomes a block, an index expression one block of integers.

Lanes are ``tl.arange`` along an axis, so an expression over them is printed once for the whole
tile, and bounds are its mask. Every block has the shape of its tile, ``[rows, columns]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue, Use

from tapeout.ir.dtypes import boolean, u32
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr, Monomial, is_at_least, is_less
from tapeout.ir.numeric import is_byte
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import bounds_of, buffer_of, lane_axis, tile_of
from tapeout.targets.gpu.emit import functions
from tapeout.targets.gpu.emit.text import limits, literal, py_expr, register, stored

LEAST_DOT = 16
"""Sizes of a product that tensor cores take; of bytes twice as many along the summed axis."""


@dataclass
class Body:
    """Lines of a function. ``bases`` are pointers to buffers, ``dims`` names of dimensions."""

    bases: Mapping[SSAValue, str]
    dims: Mapping[str, str]
    private: frozenset[SSAValue] = frozenset()
    """Buffers of which each program has a part of its own."""
    lines: list[str] = field(default_factory=list[str])
    _names: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    _lanes: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    _depth: int = 1
    _count: int = 0

    def line(self, text: str) -> None:
        """Add a line at the present depth."""
        self.lines.append("    " * self._depth + text)

    def lane_lines(self) -> Iterator[str]:
        """Definitions of the lanes that expressions have asked for."""
        for (axis, size), name in self._lanes.items():
            yield f"    {name} = tl.arange(0, {size}){'[:, None]' if axis == 0 else '[None, :]'}"

    def block(self, block: Block) -> None:
        """All operators of a block."""
        for op in block.ops:
            if not isinstance(op, ops.YieldOp):
                self.operator(op)

    def operator(self, op: Operation) -> None:
        """One operator; E0403 for one without a form."""
        match op:
            case ops.ForOp():
                self._loop(op)
            case ops.AllocOp() | ops.PrefetchOp():
                pass
            case ops.LoadOp():
                self._load(op)
            case ops.StoreOp():
                self._store(op)
            case ops.FullOp():
                spec = tile_of(op.y)
                value = literal(op.value.data, spec.dtype)
                self._bind_number(op.y, value, register(spec.dtype))
            case ops.IndexOp():
                self._index(op)
            case ops.MapOp():
                dtype = tile_of(op.xs[1 if op.fn.data == "where" else 0]).dtype
                operands = [self._names[v] for v in op.xs]
                self._bind(op.y, functions.text(op.fn.data, dtype, operands))
            case ops.BroadcastOp():
                self._bind(op.y, f"tl.broadcast_to({self._names[op.x]}, {_shape(op.y)})")
            case ops.ConvertOp():
                self._bind(op.y, self._converted(op))
            case ops.BitcastOp():
                self._bitcast(op)
            case ops.FieldOp():
                mask = (1 << op.bits.data) - 1
                self._bind(
                    op.y, f"(({self._names[op.x]} >> {op.low.data}) & {mask}) << {op.to.data}"
                )
            case ops.ReduceOp():
                x, dtype = self._names[op.x], tile_of(op.x).dtype
                self._bind(op.y, functions.reduction(op.fn.data, dtype, x, op.axis.data))
            case ops.TransposeOp():
                self._bind(op.y, f"tl.trans({self._names[op.x]})")
            case ops.DotOp():
                self._bind(op.y, self._dot(op), "sum")
            case _:
                raise CompileError("E0403", f"{op.name} has no form on GPUs")

    # Names

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def _bind(self, value: SSAValue, text: str, stem: str = "t") -> str:
        name = self._names[value] = self._fresh(stem)
        self.line(f"{name} = {text}")
        return name

    def _bind_number(self, value: SSAValue, text: str, kind: str) -> None:
        """A tile of one number; where only arithmetic reads it, the number stands there itself."""
        if all(n == 1 for n in tile_of(value).shape) and all(map(_takes_number, value.uses)):
            self._names[value] = text if text.isidentifier() or text[0].isdigit() else f"({text})"
        else:
            self._bind(value, f"tl.full({_shape(value)}, {text}, {kind})")

    # Index expressions

    def _lane(self, axis: int, size: int) -> str:
        assert size & (size - 1) == 0, f"a tile on a GPU has sizes that are powers of 2, not {size}"
        return self._lanes.setdefault((axis, size), f"{'rows' if axis == 0 else 'columns'}{size}")

    def _expr(self, value: Expr, shape: Sequence[int], indices: Sequence[SSAValue]) -> str:
        table = dict(self.dims)
        for s in value.symbols():
            axis, at = lane_axis(s), ops.index_position(s)
            if axis is not None:
                table[s.name] = self._lane(axis, shape[axis]) if shape[axis] > 1 else "0"
            elif at is not None:
                table[s.name] = self._names[indices[at]]
        return py_expr(value, table)

    def _index(self, op: ops.IndexOp) -> None:
        """The value of an expression at every lane."""
        value, shape = op.expr.data[0], tile_of(op.y).shape
        text = self._expr(value, shape, op.indices)
        if not any(s.name.startswith("_") for s in value.symbols()):
            self._bind_number(op.y, text, "tl.int64")
            return
        text = self._filled(
            text if text.isidentifier() else f"({text})", [value], shape, op.indices
        )
        self._bind(op.y, f"{text}.to(tl.int64)", "at")

    def _filled(
        self, text: str, values: Sequence[Expr], shape: Sequence[int], indices: Sequence[SSAValue]
    ) -> str:
        """Text made of expressions, broadcast where they do not run along all lanes."""
        found = [1, 1]
        for s in {s for value in values for s in value.symbols()}:
            axis, at = lane_axis(s), ops.index_position(s)
            sizes = tile_of(indices[at]).shape if at is not None else (1, 1)
            if axis is not None:
                found[axis] = shape[axis]
            found = [max(pair) for pair in zip(found, sizes, strict=True)]
        if found == list(shape) and max(found) > 1:
            return text
        return f"tl.broadcast_to({text}, {_sizes(shape)})"

    # Memory

    def _address(self, op: ops.LoadOp | ops.StoreOp, shape: Sequence[int]) -> tuple[str, str]:
        """Pointers and a mask over the lanes of a shape; no mask where all lanes take part."""
        flat = buffer_of(op.buffer).flat(op.index.data)
        # What no lane changes is added to the pointer itself: one addition for all lanes.
        fixed = Expr({m: c for m, c in flat.terms if not _varies(m)})
        parts = [self.bases[op.buffer]]
        for part in (fixed, flat - fixed):
            if part != 0:
                text = self._expr(part, shape, op.indices)
                parts.append(text if len(part.terms) == 1 and text[0] != "-" else f"({text})")
        pointers = self._filled(" + ".join(parts), [flat], shape, op.indices)
        tests: list[str] = []
        for e, n in bounds_of(op):
            left, right = (self._expr(v, shape, op.indices) for v in (e, n))
            if not is_at_least(e, 0):
                tests.append(f"{left} >= 0")
            if not is_less(e, n):
                tests.append(f"{left} < {right}")
        if not tests:
            return pointers, ""
        used = [v for pair in bounds_of(op) for v in pair]
        text = " & ".join(f"({test})" for test in tests) if len(tests) > 1 else tests[0]
        return pointers, self._filled(text, used, shape, op.indices)

    def _load(self, op: ops.LoadOp) -> None:
        spec = tile_of(op.y)
        pointers, mask = self._address(op, spec.shape)
        if mask:
            fill = int(op.fill.data) if spec.dtype is boolean else literal(op.fill.data, spec.dtype)
            mask = f", mask={mask}, other={fill}"
        text = f"tl.load({pointers}{mask})"
        if spec.dtype is boolean:
            text = f"{text} != 0"
        elif register(spec.dtype) != stored(spec.dtype):
            text = f"{text}.to({register(spec.dtype)})"
        self._bind(op.y, text, "v")

    def _store(self, op: ops.StoreOp) -> None:
        dtype = buffer_of(op.buffer).dtype
        pointers, mask = self._address(op, tile_of(op.value).shape)
        value = self._names[op.value]
        if register(dtype) != stored(dtype):
            value = f"{value}.to({stored(dtype)})"
        kept = f", mask={mask}" if mask else ""
        # Threads of a program read what others of it have written: scratch has fences around it.
        fences = op.buffer in self.private
        if fences:
            self.line("tl.debug_barrier()")
        self.line(f"tl.store({pointers}, {value}{kept})")
        if fences:
            self.line("tl.debug_barrier()")

    # Values

    def _converted(self, op: ops.ConvertOp) -> str:
        x, was, to = self._names[op.x], tile_of(op.x).dtype, tile_of(op.y).dtype
        if to is boolean:
            return f"{x} != 0"
        if op.saturate.data:
            low, high = limits(to)
            exact = "tl.float64" if was.is_float else "tl.int64"
            x = f"tl.minimum(tl.maximum({x}.to({exact}), {low}), {high})"
        if to.is_float and stored(to) != register(to):
            return f"{x}.to({stored(to)}).to(tl.float32)"
        if was.is_float and to.is_integer:
            # Hardware would saturate; a wider integer that is cut wraps, as the IR says.
            way = "tl.int64" if to.bits == 64 or to is u32 else "tl.int32"
            return f"{x}.to({way}).to({register(to)})"
        return f"{x}.to({register(to)})"

    def _bitcast(self, op: ops.BitcastOp) -> None:
        x, was, to = self._names[op.x], tile_of(op.x).dtype, tile_of(op.y).dtype
        if register(was) != stored(was):
            x = f"{x}.to({stored(was)})"
        text = f"{x}.to({stored(to)}, bitcast=True)"
        self._bind(op.y, text if register(to) == stored(to) else f"{text}.to({register(to)})")

    def _dot(self, op: ops.DotOp) -> str:
        a, b, c = (self._names[v] for v in (op.a, op.b, op.acc))
        (m, k), n = tile_of(op.a).shape, tile_of(op.b).shape[1]
        left, right = tile_of(op.a).dtype, tile_of(op.b).dtype
        if k == 1:
            wide = _sizes((m, n))
            a, b = (f"tl.broadcast_to({x}, {wide})" for x in (a, b))
            return f"tl.fma({a}, {b}, {c})" if left.is_float else f"{c} + {a} * {b}"
        if min(m, n, k // 2 if is_byte(left) else k) < LEAST_DOT:
            kind = register(tile_of(op.acc).dtype)
            a, b = f"{a}.to({kind})[:, :, None]", f"{b}.to({kind})[None, :, :]"
            return f"{c} + tl.sum({a} * {b}, axis=1)"
        if is_byte(left) and is_byte(right):
            return f"to_dot_of_bytes({a}, {b}, {c})"
        a, b = (
            x if register(dtype) == stored(dtype) else f"{x}.to({stored(dtype)})"
            for x, dtype in ((a, left), (b, right))
        )
        exact = 'input_precision="ieee"'
        return f"tl.dot({a}, {b}, {c}, {exact}, out_dtype={register(tile_of(op.acc).dtype)})"

    # Loops

    def _loop(self, op: ops.ForOp) -> None:
        carried: list[str] = []
        for argument, value in zip(op.body.block.args, op.carried, strict=True):
            name = self._names[argument] = self._fresh("carried")
            self.line(f"{name} = {self._names[value]}")
            carried.append(name)
        ends = {f"_at{i}": f"tl.max({self._names[v]})" for i, v in enumerate(op.indices)}
        lo, hi, step = (py_expr(e, {**self.dims, **ends}) for e in op.range.data)
        self.line(f"for {op.symbol.name} in range({lo}, {hi}, {step}):")
        self._depth += 1
        before = len(self.lines)
        self.block(op.body.block)
        last = op.body.block.last_op
        assert isinstance(last, ops.YieldOp), "a loop ends in what it carries on"
        self._hand_on(carried, [self._names[v] for v in last.values])
        if len(self.lines) == before:
            self.line("pass")
        self._depth -= 1
        self._names.update(zip(op.ys, carried, strict=True))

    def _hand_on(self, carried: Sequence[str], news: Sequence[str]) -> None:
        """Give carried names their next values, all at once."""
        moves = [(old, new) for old, new in zip(carried, news, strict=True) if old != new]
        if not moves:
            return
        if any(new in carried for _, new in moves):
            olds, values = (", ".join(names) for names in zip(*moves, strict=True))
            self.line(f"{olds} = {values}")
            return
        for old, new in moves:
            self.line(f"{old} = {new}")


def _varies(monomial: Monomial) -> bool:
    """Whether a term is another at every lane, or may be."""
    return any(s.name.startswith("_") for s in Expr({monomial: 1}).symbols())


def _takes_number(use: Use) -> bool:
    """Whether an operator can read a Python number in place of this operand."""
    op = use.operation
    if not isinstance(op, ops.MapOp):
        return False
    if not functions.takes_numbers(op.fn.data, tile_of(op.xs[use.index]).dtype):
        return False
    # What else it reads says the type, and is a block.
    others = [x for i, x in enumerate(op.xs) if i != use.index]
    if op.fn.data == "where":
        others = others[1:] if use.index else []
    return any(not _is_number(x) for x in others)


def _is_number(value: SSAValue) -> bool:
    """Whether a tile may be printed as a Python number."""
    is_one = all(n == 1 for n in tile_of(value).shape)
    return is_one and isinstance(value.owner, ops.FullOp | ops.IndexOp)


def _sizes(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _shape(value: SSAValue) -> str:
    return _sizes(tile_of(value).shape)
