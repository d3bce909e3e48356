"""Constant folding: what no input decides is computed once, within limits."""

from typing import Any

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import Block, Region
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.module import Module
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import IfOp, ReturnOp
from tapeout.ir.types import TensorType, spec
from tapeout.passes.manager import run
from tapeout.passes.simplify.fold import Fold

ALL = [Fold()]


def weight_bytes(module: Module) -> int:
    symbols = {op.symbol.data for op in module.ir.walk() if isinstance(op, WeightOp)}
    return sum(module.weights[s].nbytes for s in symbols)


def test_a_chain_of_constants_becomes_one(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4")
    c = g.map("sqrt", g.map("add", g.map("mul", g.fixed([1, 2, 3, 4]), g.fixed(2)), g.fixed(1)))
    assert check(g.returning(g.map("add", g["x"], c)), ALL, {"B": 2}) == {"add": 1}


def test_what_an_input_decides_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 4")
    assert check(g.returning(g.map("sqrt", g.map("abs", g["x"]))), ALL, {"B": 2}).total() == 2


def test_a_transposed_weight_is_a_new_weight_without_a_copy(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 300")
    w = g.weight(200, 300)
    module = g.returning(g.matmul(g["x"], g.transpose(w, (1, 0))))
    assert check(module, ALL, {"B": 2}) == {"matmul": 1}
    stored = [module.weights[s] for s in module.weights]
    assert any(np.shares_memory(a, b) for a in stored for b in stored if a is not b)


def test_a_large_weight_with_two_readers_is_not_stored_twice(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 700", z="f32 B, 800")
    w = g.weight(800, 700)
    module = g.returning(g.matmul(g["x"], g.transpose(w, (1, 0))), g.matmul(g["z"], w))
    assert check(module, ALL, {"B": 2}) == {"matmul": 2, "transpose": 1}
    assert weight_bytes(module) == 800 * 700 * 4


def test_growth_beyond_the_limit_stays(graph: Any, check: Any) -> None:
    g = graph(x="f32 1024")
    outer = g.map("mul", g.fixed(np.arange(1024.0)[:, None]), g.fixed(np.arange(1024.0)))
    module = g.returning(g.map("add", g["x"], outer))
    assert check(module, [Fold(limit=1)]) == {"mul": 1, "add": 1}
    assert check(module, [Fold(limit=5)]) == {"add": 1}


def test_an_expansion_for_maps_stays_small(graph: Any, check: Any) -> None:
    g = graph(x="f32 300, 400")
    wide = g.expand(g.fixed(np.arange(400.0)), spec(g["x"]).dims)
    module = g.returning(g.map("add", g["x"], wide))
    assert check(module, ALL) == {"expand": 1, "add": 1}
    assert weight_bytes(module) == 1600


def test_an_expanded_number_becomes_a_weight_that_takes_no_memory(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, 300")
    module = g.returning(g.matmul(g["x"], g.expand(g.fixed(0.02), (300, 400))))
    assert check(module, ALL, {"B": 2}) == {"matmul": 1}
    stored = [module.weights[s] for s in module.weights]
    assert [a.strides for a in stored] == [(0, 0)]


def test_sizes_of_unknown_extent_stay(graph: Any, check: Any) -> None:
    g = graph(x="f32 B, S")
    wide = g.expand(g.fixed(2.0), spec(g["x"]).dims)
    left = check(g.returning(g.map("mul", g["x"], wide)), ALL, {"B": 2, "S": 3})
    assert left == {"expand": 1, "mul": 1}


def test_an_index_outside_its_axis_is_left_to_run_time(graph: Any) -> None:
    g = graph(x="f32 3")
    rows = g.op(GatherOp, g.fixed(np.arange(4.0)), g.fixed([1, 9, 2], "i64"), axis=0)
    module = g.returning(g.map("add", g["x"], rows))
    run(module, ALL, verify="each")
    assert any(isinstance(op, GatherOp) for op in module.ir.walk())


def branch(graph: Any, condition: Any) -> Any:
    g = graph(x="f32 B, 4", c="bool ")
    regions: list[Region] = []
    for fn in ("exp", "neg"):
        block = Block()
        value = Emit(Builder(InsertPoint.at_end(block))).map(fn, g["x"])
        block.add_op(ReturnOp([value]))
        regions.append(Region(block))
    test = g["c"] if condition is None else g.fixed(condition, "bool")
    chosen = IfOp(test, regions[0], regions[1], [TensorType(spec(g["x"]))])
    return g.returning(g.builder.insert(chosen).results[0])


def test_a_branch_on_a_constant_is_the_chosen_region(graph: Any, check: Any) -> None:
    assert check(branch(graph, True), ALL, {"B": 2}) == {"exp": 1}
    assert check(branch(graph, False), ALL, {"B": 2}) == {"neg": 1}


def test_a_branch_on_an_input_stays(graph: Any, check: Any) -> None:
    assert check(branch(graph, None), ALL, {"B": 2}) == {"if": 1, "exp": 1, "neg": 1}
