"""Tile programs print, parse back to the same text, and mean the same then."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.printer import Printer

from tapeout.ir.dialect import context
from tapeout.ir.dtypes import i64
from tapeout.ir.expr import bounds, symbol
from tapeout.ir.tile import interpret, ops
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import ProgramOp

Arrays = Callable[[ProgramOp, int], list[np.ndarray[Any, Any]]]


def printed(module: ModuleOp) -> str:
    text = io.StringIO()
    Printer(text).print_op(module)
    return text.getvalue()


def reparsed(program: ProgramOp) -> tuple[str, ProgramOp]:
    text = printed(ModuleOp([program]))
    module = Parser(context(), text, "program").parse_module()
    module.verify()
    found = module.body.block.first_op
    assert isinstance(found, ProgramOp)
    return text, found


def test_text_parses_back_to_the_same_text(program: ProgramOp) -> None:
    text, again = reparsed(program)
    assert reparsed(again.clone())[0] == text


def test_a_parsed_program_means_the_same(program: ProgramOp, arrays: Arrays) -> None:
    given = arrays(program, 6)
    want = interpret.run(program, given, {"N": 6})
    have = interpret.run(reparsed(program)[1], given, {"N": 6})
    for a, b in zip(want, have, strict=True):
        np.testing.assert_array_equal(a, b)


def limits(program: ProgramOp) -> dict[str, object]:
    loops = [op.symbol for op in program.walk() if isinstance(op, ops.ForOp)]
    return {s.name: (s.lo, str(s.hi), bounds(symbol(s.name, s.lo, s.hi))) for s in loops}


def test_loop_variables_keep_their_symbolic_limits(program: ProgramOp) -> None:
    before = limits(program.clone())
    assert any("N" in str(limit) for limit in before.values())
    assert limits(reparsed(program)[1]) == before


@pytest.mark.parametrize("value", [0, 0.5, 1e-5, -math.inf, 2**63 - 1, -3, 1.5e300])
def test_constants_keep_their_last_bit(begin: Callable[..., TileBuilder], value: float) -> None:
    b = begin({}, {"y0": [1]}, {"y0": i64})
    b.store(b.full(value, (1, 1), i64), b.outputs[0], [0])
    found = next(op for op in reparsed(b.program)[1].walk() if isinstance(op, ops.FullOp))
    assert found.value.data == value
    assert type(found.value.data) is type(value)
