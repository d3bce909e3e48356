"""The page ``ir/README.md`` shows what the compiler prints; run this file to print it anew."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.printer import Printer
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.cost import kernel_cost
from tapeout.ir.dtypes import f32
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.tile.count import count
from tapeout.ir.types import Spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run
from tapeout.passes.tile.kernel_io import Machine
from tapeout.passes.tile.strategies import constant_operands, lower_kernel
from tapeout.targets.cpu.device import device
from tapeout.targets.cpu.emit.kernel import emit_kernel

PAGE = Path(__file__).resolve().parents[2] / "ir" / "README.md"
BLOCK = re.compile(r"<!-- (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
ROWS, DEPTH, COLUMNS = 8, 6, 8
SMALL = Machine(lanes=4, tile_m=2, tile_n=4, l1_bytes=1 << 15, l2_bytes=1 << 18)


def product() -> Module:
    """``gelu(x @ w + b)`` with a weight and a bias."""
    entry = EntryOp("main", [("x", Spec((as_expr(ROWS), as_expr(DEPTH)), f32))], ["y"])
    module = Module(ModuleOp([entry]))
    g = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    w = module.weights.add(np.ones((DEPTH, COLUMNS), np.float32), "w")
    b = module.weights.add(np.ones(COLUMNS, np.float32), "b")
    weights = [
        g.op(WeightOp, symbol=w, shape=(as_expr(DEPTH), as_expr(COLUMNS)), dtype="f32"),
        g.op(WeightOp, symbol=b, shape=(as_expr(COLUMNS),), dtype="f32"),
    ]
    total = g.map("add", g.matmul(entry.body.block.args[0], weights[0]), weights[1])
    g.builder.insert(ReturnOp([g.map("gelu", total)]))
    return module


def text(op: Operation) -> str:
    out = io.StringIO()
    Printer(out).print_op(op)
    return out.getvalue() + "\n"


def blocks() -> dict[str, str]:
    """What stands on the page, by name."""
    module = product()
    found = {"nn": text(next(module.entries()))}
    run(module, [Fuse()], verify="each")
    kernel = next(iter(module.kernels().values()))
    found["kernel"] = text(module.ir)
    lowered = lower_kernel(kernel, SMALL, constant_operands(module)[kernel.sym_name.data])
    found["tile"] = text(lowered.program)
    counts, cost = count(lowered.program, {}), kernel_cost(kernel)
    found["counts"] = (
        f"nn    {cost.flops} flop, {cost.bytes} bytes\n"
        f"tile  {counts.flops} flop, loads {dict(counts.loaded)}, stores {dict(counts.stored)}\n"
    )
    lanes = replace(device("generic"), lanes=SMALL.lanes)
    source = emit_kernel(lowered.program, lanes, {}).source
    start = source.index("  for (i64 task")
    found["c"] = source[start : source.index("\n}\n", start) + 1]
    return found


def updated(page: str) -> str:
    """The page with its blocks printed anew."""
    printed = blocks()
    return BLOCK.sub(
        lambda m: f"<!-- {m[1]} -->\n```{m[2]}\n{printed[m[1]]}```" if m[1] in printed else m[0],
        page,
    )


def test_the_page_shows_what_is_printed() -> None:
    page = PAGE.read_text()
    assert {m[1] for m in BLOCK.finditer(page)} >= blocks().keys()
    assert updated(page) == page, f"run python {Path(__file__).name}, then read what changed"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
