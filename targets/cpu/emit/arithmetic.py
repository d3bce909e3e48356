"""Tile operators that compute: one C expression for each vector of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce as fold

from xdsl.ir import SSAValue

from tapeout.ir import dtypes
from tapeout.ir.dtypes import DType
from tapeout.ir.scalars import SCALARS
from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import tile_of
from tapeout.targets.cpu.emit import functions
from tapeout.targets.cpu.emit.registers import Registers
from tapeout.targets.host.text import carrier, is_stored_narrow, literal

Scalar = Callable[[int], str]
"""The C scalar of a row of a tile."""


def full(regs: Registers, op: ops.FullOp) -> None:
    """The same constant in every vector."""
    t = carrier(tile_of(op.y).dtype)
    number = literal(op.value.data, t)
    decimal = f" /* {op.value.data:g} */" if "0x" in number else ""
    text = f"v_splat_{t.name}({number}{decimal})"
    hint = "zero" if op.value.data == 0 else "constant"
    regs.define(op.y, [[text for _ in row] for row in regs.places(op.y)], hint)


def map_(regs: Registers, op: ops.MapOp) -> None:
    """A scalar function, vector by vector."""
    if _is_part_of_conversions(op):
        return
    fn: str = op.fn.data
    if any(regs.is_quads(x) for x in op.xs):
        assert fn == "or", f"{fn} is not one of quads"
        columns = zip(*(regs.rows(x)[0] for x in op.xs), strict=True)
        regs.define(op.y, [[f"({' | '.join(column)})" for column in columns]], "codes", "i32")
        return
    dtype = tile_of(op.xs[-1]).dtype
    t, returns_bool = carrier(dtype), SCALARS[fn].returns_bool

    def text(r: int, q: int) -> str:
        args = [regs.pick(x, r, q) for x in op.xs]
        if fn == "not":
            return functions.not_text(args[0], t, dtype is dtypes.boolean)
        return functions.map_text(fn, args, t, returns_bool)

    regs.define(op.y, [[text(r, q) for r, q in row] for row in regs.places(op.y)], fn)


def field(regs: Registers, op: ops.FieldOp) -> None:
    """Bits of the bytes of quads: a shift of whole lanes, then a mask that cuts off neighbours."""
    assert regs.is_quads(op.x), "fields are those of packed codes"
    up = op.to.data - op.low.data
    mask = ((1 << op.bits.data) - 1 << op.to.data) * 0x01010101

    def text(x: str) -> str:
        shift = f" << {up}" if up > 0 else f" >> {-up}" if up else ""
        return f"(v_i32)((v_u32){x}{shift} & 0x{mask:08X}u)"

    regs.define(op.y, [[text(x) for x in regs.rows(op.x)[0]]], "codes", "i32")


def broadcast(regs: Registers, op: ops.BroadcastOp) -> None:
    """No code: the vectors of the operand, each at several places."""
    regs.bind(op.y, [[regs.pick(op.x, r, q) for r, q in row] for row in regs.places(op.y)])


def convert(regs: Registers, op: ops.ConvertOp) -> None:
    """Another element type, vector by vector."""
    source, to, saturate = tile_of(op.x).dtype, tile_of(op.y).dtype, bool(op.saturate.data)
    fraction = _rounded_by(op)

    def text(r: int, q: int) -> str:
        if fraction is not None:
            return f"v_sat_f32_{to.name}({regs.pick(fraction, r, q)})"
        return _converted(regs.pick(op.x, r, q), source, to, saturate)

    rows = [[text(r, q) for r, q in row] for row in regs.places(op.y)]
    regs.define(op.y, rows, f"as_{to.name}")


SATURATING = (dtypes.i8, dtypes.u8, dtypes.i16, dtypes.u16)
"""Integers that floats are clamped to and rounded to in one step."""


def _saturates(op: ops.ConvertOp) -> bool:
    from_f32 = carrier(tile_of(op.x).dtype) is dtypes.f32
    return from_f32 and tile_of(op.y).dtype in SATURATING and bool(op.saturate.data)


def _rounded_by(op: ops.ConvertOp) -> SSAValue | None:
    """What a conversion rounds itself, where its operand is that rounded."""
    inner = op.x.owner
    if isinstance(inner, ops.MapOp) and inner.fn.data == "round" and _saturates(op):
        return inner.xs[0]
    return None


def _is_part_of_conversions(op: ops.MapOp) -> bool:
    """Whether it rounds what conversions round anyway."""
    readers = [u.operation for u in op.y.uses]
    return op.fn.data == "round" and all(
        isinstance(o, ops.ConvertOp) and _saturates(o) for o in readers
    )


def _converted(text: str, source: DType, to: DType, saturate: bool) -> str:
    a, b = carrier(source), carrier(to)
    if to is dtypes.boolean:
        return f"v_bool_{a.name}(v_ne_{a.name}({text}, v_zero_{a.name}()))"
    if saturate and a is dtypes.f32 and to in SATURATING:
        return f"v_clip_f32_{to.name}({text})"
    if saturate and to.is_integer and a is not b:
        text, a = functions.clamp_text(text, a, to)
    wide = functions.convert_text(text, a, b)
    if b is to:
        return wide
    return f"v_round_to_{to.name}{'_sat' if saturate else ''}({wide})"


def bitcast(regs: Registers, op: ops.BitcastOp) -> None:
    """The same bits; floats that travel as f32 go through their bits in memory."""
    source, to = tile_of(op.x).dtype, tile_of(op.y).dtype
    raw = "u16" if source.bits == 16 else "u8"

    def text(r: int, q: int) -> str:
        x = regs.pick(op.x, r, q)
        if is_stored_narrow(source):
            x = f"to_{source.name}_f32({x})"
        if is_stored_narrow(to):
            return f"to_f32_{to.name}((v_{raw})({x}))"
        return f"((v_{carrier(to).name})({x}))"

    regs.define(op.y, [[text(r, q) for r, q in row] for row in regs.places(op.y)], "bits")


def reduce(regs: Registers, op: ops.ReduceOp) -> None:
    """Rows or vectors combined from first to last; at the end of a row, lanes in halves."""
    fn: str = op.fn.data
    t, rows = carrier(tile_of(op.x).dtype), regs.rows(op.x)

    def combined(texts: Sequence[str]) -> str:
        return fold(lambda a, b: functions.combine_text(fn, a, b, t), texts)

    if op.axis.data == 0:
        regs.define(op.y, [[combined(column) for column in zip(*rows, strict=True)]], fn)
    elif regs.is_column(op.x):
        regs.bind(op.y, rows)
    else:
        totals = [functions.horizontal_text(fn, combined(row), t) for row in rows]
        regs.define(op.y, [[f"v_splat_{t.name}({total})"] for total in totals], fn)


def transpose(regs: Registers, op: ops.TransposeOp) -> None:
    """A square of vectors; or four of bytes, one over the other, whose columns become lines."""
    t, lanes, shape = carrier(tile_of(op.x).dtype), regs.lanes, regs.shape(op.x)
    assert shape in ((lanes, lanes), (4 * lanes, lanes)), f"no square of vectors, nor four: {shape}"
    name = regs.fresh("turned")
    vectors = ", ".join(regs.pick(op.x, r, 0) for r in range(shape[0]))
    if shape[0] == lanes:
        regs.out.line(f"v_{t.name} {name}[] = {{{vectors}}};")
        regs.out.line(f"v_transpose_{t.name}({name});")
    else:
        assert t.bytes == 1, f"only bytes make lines, not {t.name}"
        regs.out.line(f"const v_{t.name} {name}_rows[] = {{{vectors}}};")
        regs.out.line(f"v_i32 {name}[{lanes}];")
        regs.out.line(f"v_transpose_lines({name}, {name}_rows);")
    regs.bind(op.y, [[f"{name}[{r}]"] for r in range(lanes)])


def interleave(regs: Registers, op: ops.InterleaveOp) -> None:
    """Four lines of bytes, each in a vector as wide as four of theirs, as four vectors of dots."""
    assert len(op.order()) == 4 * regs.lanes, "a line is one register"
    name = regs.fresh("quads")
    lines = ", ".join(regs.pick(row, 0, 0) for row in op.rows)
    regs.out.line(f"v_i32 {name}[] = {{{lines}}};")
    regs.out.line(f"v_interleave({name});")
    regs.bind(op.y, [[f"{name}[{q}]" for q in range(4)]])


def dot(regs: Registers, op: ops.DotOp, late: Scalar | None) -> None:
    """A step of a product, or four of bytes, or two of 16 bits, row by row.

    With ``late``, the scalar of a row of ``a`` (or its four bytes) is loaded right before its use,
    so that it needs one register and the accumulators keep theirs.
    """
    t = carrier(tile_of(op.acc).dtype).name
    depth, types = tile_of(op.a).shape[1], (tile_of(op.a).dtype, tile_of(op.b).dtype)
    deep = late is not None and all(d.bits * depth == 32 for d in types)
    assert depth == 1 or deep, "a dot takes one step, or as many as fill 32 bits"
    kind = f"dot{depth}_{types[0].name}_{_right_type(op.b)}" if depth > 1 else ""
    left = "i32" if kind else t
    name = regs.fresh("dot")
    rows: list[list[str]] = []
    for r, row in enumerate(regs.places(op.y)):
        a = f"{name}_a{r}" if late is not None else regs.pick(op.a, r, 0)
        if late is not None:
            regs.out.line(f"const v_{left} {a} = v_splat_{left}({late(r)});")
        for _, q in row:
            b, c = regs.pick(op.b, 0, q), regs.pick(op.acc, r, q)
            step = f"v_{kind}({a}, {b}, {c})" if kind else _multiply_add(a, b, c, t)
            regs.out.line(f"const v_{t} {name}_{r}_{q} = {step};")
        rows.append([f"{name}_{r}_{q}" for _, q in row])
    regs.bind(op.y, rows)


def _right_type(value: SSAValue) -> str:
    """The element type of the right side of a deep dot; u7 for codes that are below 128."""
    name = tile_of(value).dtype.name
    return "u7" if name == "u8" and _width(value) < 8 else name


def _width(value: SSAValue) -> int:
    """How many bits of the elements of a tile may be set, as far as fields tell."""
    owner = value.owner
    if isinstance(owner, ops.FieldOp):
        return owner.to.data + owner.bits.data
    if isinstance(owner, ops.MapOp) and owner.fn.data == "or":
        return max(map(_width, owner.xs))
    return tile_of(value).dtype.bits


def _multiply_add(a: str, b: str, c: str, t: str) -> str:
    if t in ("f32", "f64"):
        return f"v_fma_{t}({a}, {b}, {c})"
    return f"v_add_{t}({c}, v_mul_{t}({a}, {b}))"
