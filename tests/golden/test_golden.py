"""Final emitted text. Run this file with a name to print it anew, then read what changed."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import f32
from tapeout.ir.expr import Expr, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run
from tapeout.targets.cpu.device import device
from tapeout.targets.cpu.emit.kernel import emit_kernel
from tapeout.targets.cpu.target import lower_kernels

HERE = Path(__file__).parent
S = symbol("S", 1, 512)
HOSTILE = 'x"; system("true"); /* */ \n#include <evil.h>'


def _emitted(dims: tuple[Expr, ...], make: Callable[[Emit, SSAValue], SSAValue], kind: str) -> str:
    entry = EntryOp("main", [(HOSTILE, Spec(dims, f32))], [HOSTILE])
    module = Module(ModuleOp([entry]))
    g = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    g.builder.insert(ReturnOp([make(g, entry.body.block.args[0])]))
    run(module, [Fuse()])
    lowered = lower_kernels(module, device(kind))
    return emit_kernel(next(iter(lowered.values())).program, device(kind), {"S": 0}).source


def softmax() -> str:
    """Rows of symbolic length on 8 lanes: wide vectors, one vector, a cut one."""
    return _emitted((as_expr(3), S), lambda g, x: g.op(SoftmaxOp, x, axis=-1), "avx2")


def product() -> str:
    """A packed product with GELU on 4 lanes; the number of rows is symbolic."""

    def make(g: Emit, x: SSAValue) -> SSAValue:
        w = g.op(WeightOp, symbol=HOSTILE, shape=(as_expr(6), as_expr(10)), dtype="f32")
        return g.map("gelu", g.matmul(x, w))

    return _emitted((S, as_expr(6)), make, "generic")


KERNELS = {f"{f.__name__}.c": f for f in (softmax, product)}


@pytest.mark.parametrize("name", KERNELS)
def test_emitted_text_is_as_it_was(name: str) -> None:
    assert KERNELS[name]() == (HERE / name).read_text()


WORDS = frozenset(
    "const static void int for char restrict include kernel h i64 f32 session buffers dims call "
    "begin end task thread p s b".split()
)
GENERATED = re.compile(
    r"k\d+_\w+|[xy]\d+(_\w+)?|tmp\d+(_\w+)?|dim_S|[a-z]\d*|[a-z]+_\d+(_\w+)?"
    r"|(v|to|rt|as)_\w+|RT_NAME|__builtin_inff|x\w*p|p\d+f"
)


@pytest.mark.parametrize("name", KERNELS)
def test_nothing_of_the_model_but_sizes_is_in_a_kernel(name: str) -> None:
    code = re.sub(r"/\*.*?\*/", "", KERNELS[name](), flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z_]\w*", code))
    assert {w for w in words if w not in WORDS and not GENERATED.fullmatch(w)} == set()
    assert code.count('"') == 2, "the only string is the header's name"
    assert "evil" not in KERNELS[name]()


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        (HERE / wanted).write_text(KERNELS[wanted]())
