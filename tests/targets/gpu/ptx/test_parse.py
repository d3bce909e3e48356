"""PTX as text: what is read, and what is refused with its line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx import Launch
from tapeout.targets.gpu.ptx.parse import parse
from tapeout.targets.gpu.ptx.text import Address, Immediate, Instruction, Register, Vector

KERNEL = """.version 8.8
.visible .entry one(.param .u64 .ptr .global .align 1 p0, .param .u32 p1) .reqntid 32
{
  .reg .b32 %r<3>; // three of them
  .loc 1 7 3
  ld.global.v2.b32 {%r0, %r1}, [ p0 + 8 ];
  { .reg .b32 %r1; mov.u32 %r1, 0f3F800000; }
$L: @!%p1 bra $L;
}
.file 1 "/some/where/source.py"
.section .debug_abbrev { .b8 1 }
"""


def test_what_a_kernel_holds() -> None:
    (entry,) = parse(KERNEL).entries
    assert (entry.name, entry.threads) == ("one", 32)
    assert entry.parameters == [("p0", "u64"), ("p1", "u32")]
    load, move, _, branch = entry.body
    assert isinstance(load, Instruction)
    assert load.source == "source.py:7"
    assert load.line == 6
    first, second = load.operands
    assert first == Vector((Register("%r0"), Register("%r1")))
    assert isinstance(second, Address)
    assert second.offset == 8
    assert isinstance(move, Instruction)
    # An inner scope has a register of its own.
    assert move.operands == (Register("%r1@3"), Immediate(0x3F800000))
    assert isinstance(branch, Instruction)
    assert (branch.guard, branch.unless, branch.root) == ("%p1", True, "bra")


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("\n\nwgmma.mma_async.sync x, y;", 9),
        ("add.e4m3 %r0, %r1, %r2;", 7),
        ("ld.global.b32 %r0, [%d0+4+4];", 7),
        ("bar.sync 1, 64;", 7),
        ("cvt.rn.satfinite.e4m3x2.f32 %r0, %r1, %r2;", 7),
        ("mul.lo.u64 %d0, %r1, %d1;", 7),
        ("shfl.sync.bfly.b32 %r0, %r1;", 7),
        ("@%p9 add.u32 %r0, %r1, %r2;", 7),
        ("bra NOWHERE;", 7),
        ("bra.uni %r0;", 7),
        ("@%p9 bra.uni NOWHERE;", 7),
        ("cp.async.wait_group %r0;", 7),
        ("mov.u32 %r0, unheard_of;", 7),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(code: str, line: int) -> None:
    text = f"""
        .version 8.8
        .visible .entry one()
        {{
        .reg .b32 %r<3>;
        .reg .b64 %d<3>;
        {code}
        }}"""
    with pytest.raises(CompileError, match=rf"E0901.*(?s:.*)PTX line {line}\b"):
        Launch(text)


def test_one_of_several_kernels_is_named(body: Callable[..., Any]) -> None:
    text = body("").ptx + body("").ptx.split("smem[];")[1].replace("entry kernel", "entry other")
    with pytest.raises(CompileError, match="has not one kernel"):
        Launch(text)
    Launch(text, "other").run((1,), [np.zeros(1)], warps=1, shared=0)
