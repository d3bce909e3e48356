"""Small tile programs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import DType, f32, i32, i64, u8
from tapeout.ir.expr import Expr, ExprLike, as_expr, symbol
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import ProgramOp, buffer_of, index_operand, lane
from tapeout.ir.tile.types import BufferSpec

Array = np.ndarray[Any, Any]
Start = Callable[..., TileBuilder]


def buffer(*dims: ExprLike, dtype: DType = f32, space: str = "global") -> BufferSpec:
    return BufferSpec(tuple(map(as_expr, dims)), dtype, space)


@pytest.fixture
def begin() -> Start:
    """``begin({"x0": [4]}, {"y0": [4]}, dtypes={"x0": i64})``: an empty program."""

    def build(
        inputs: dict[str, list[ExprLike]],
        outputs: dict[str, list[ExprLike]],
        dtypes: dict[str, DType] | None = None,
    ) -> TileBuilder:
        kinds = dtypes or {}
        named = [
            [(n, buffer(*dims, dtype=kinds.get(n, f32))) for n, dims in side.items()]
            for side in (inputs, outputs)
        ]
        return TileBuilder("k0", "a test", *named)

    return build


N = symbol("N", 1)


def row_sums(width: int = 4) -> ProgramOp:
    """Sums of the rows of ``[3, N]``, in vectors of which the last is cut, through scratch."""
    b = TileBuilder("sums", "sums of rows", [("x0", buffer(3, N))], [("y0", buffer(3, 1))])
    with b.parallel("i", 3) as i:
        kept = b.alloc([N], f32)
        zero = b.full(0, (1, width), f32)
        with b.loop("k", 0, N, width, [zero]) as k:
            at = k.iv + lane(1, width)
            x = b.load(b.inputs[0], [i.iv, at], (1, width), [(at, N)])
            b.store(x, kept, [at], [(at, N)])
            k.next = [b.map("add", k.carried[0], x)]
        b.store(b.reduce("sum", k.results[0], 1), b.outputs[0], [i.iv, 0])
    return b.program


def triangle() -> ProgramOp:
    """A loop whose bound is the variable of the loop around it, and a look-up."""
    b = TileBuilder(
        "triangle",
        "sums of growing rows",
        [("x0", buffer(N, 5)), ("x1", buffer(5, dtype=i64))],
        [("y0", buffer(N, 1))],
    )
    with b.loop("i", 0, N) as i:
        one = b.full(0, (1, 1), f32)
        with b.loop("k", 0, i.iv + 1, 1, [one]) as k:
            place = b.load(b.inputs[1], [k.iv % 5], (1, 1))
            x = b.load(b.inputs[0], [i.iv, index_operand(0)], (1, 1), indices=[place])
            k.next = [b.map("add", k.carried[0], x)]
        b.store(k.results[0], b.outputs[0], [i.iv, 0])
    return b.program


def steps_of_a_product() -> ProgramOp:
    """``[5, N] @ [N, 8]`` with blocks of two rows, one of which is cut."""
    b = TileBuilder(
        "product", "a product", [("x0", buffer(5, N)), ("x1", buffer(N, 8))], [("y0", buffer(5, 8))]
    )
    with b.parallel("i", 5, 2) as i:
        row = i.iv + lane(0, 2)
        rows: list[tuple[Expr, Expr]] = [(row, as_expr(5))]
        with b.loop("k", 0, N, 1, [b.full(0, (2, 8), f32)]) as k:
            x = b.load(b.inputs[0], [row, k.iv], (2, 1), rows)
            w = b.load(b.inputs[1], [k.iv, lane(1, 8)], (1, 8))
            k.next = [b.dot(x, w, k.carried[0])]
        b.store(k.results[0], b.outputs[0], [row, lane(1, 8)], rows)
    return b.program


def looked_up() -> ProgramOp:
    """``N`` rows, two at a time, by eight columns of 3 bits, in two blocks of four steps."""
    b = TileBuilder(
        "looked_up",
        "a product that is looked up",
        [("x0", buffer(2 * N, 2, 4, 2, 16, dtype=u8)), ("x1", buffer(2, 3, 2, 8, dtype=u8))],
        [("y0", buffer(2 * N, 8, dtype=i32))],
    )
    with b.parallel("i", 2 * N, 2) as i:
        row = i.iv + lane(0, 2)
        with b.loop("k", 0, 2, 1, [b.full(-7, (2, 8), i32)]) as k:
            tables, codes = [row, k.iv], [k.iv]
            k.next = [b.look_up(b.inputs[0], tables, b.inputs[1], codes, k.carried[0], 1, 64)]
        b.store(k.results[0], b.outputs[0], [row, lane(1, 8)])
    return b.program


PROGRAMS = {f.__name__: f for f in (row_sums, triangle, steps_of_a_product, looked_up)}


@pytest.fixture(params=PROGRAMS, ids=str)
def program(request: pytest.FixtureRequest) -> ProgramOp:
    """Each of the programs above."""
    return PROGRAMS[request.param]()


@pytest.fixture
def arrays() -> Callable[[ProgramOp, int], list[Array]]:
    """Inputs of a program for a value of ``N``."""

    def draw(program: ProgramOp, n: int) -> list[Array]:
        random = np.random.default_rng(3)
        inputs = list(program.body.block.args)[: -program.outputs.data]
        specs = [buffer_of(v) for v in inputs]
        return [
            random.integers(0, 5, [d.evaluate({"N": n}) for d in s.dims]).astype(s.dtype.numpy)
            for s in specs
        ]

    return draw
