"""The evaluator: symbols from inputs, sizes that data decides, kernels, branches and loops."""

from typing import Any

import numpy as np
import pytest
from xdsl.ir import Block, Region, SSAValue

from tapeout.ir.dtypes import boolean, f32, i64
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import Expr, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.sort import NonZeroOp
from tapeout.ir.ops.source import BindDimsOp, DimValuesOp, IotaOp
from tapeout.ir.ops.structure import CallOp, EntryOp, IfOp, KernelOp, LoopOp, ReturnOp
from tapeout.ir.types import Spec, TensorType

S = symbol("S", 1, 64)


def vector(size: Expr, dtype: Any = f32) -> Spec:
    return Spec((size,), dtype)


def module_of(*ops: Any) -> Module:
    module = Module()
    module.ir.body.block.add_ops(ops)
    return module


def closed(entry: EntryOp, ops: list[Any], values: list[SSAValue]) -> EntryOp:
    entry.body.block.add_ops([*ops, ReturnOp(values)])
    return entry


def test_symbols_take_their_values_from_the_inputs() -> None:
    entry = EntryOp("main", [("x", vector(S))], ["n"])
    sizes = DimValuesOp.make(values=(S, S * 2 + 1))
    module = module_of(closed(entry, [sizes], [sizes.y]))
    result = evaluate(module, {"x": np.zeros(7, np.float32)})
    np.testing.assert_array_equal(result["n"], [7, 15])


@pytest.mark.parametrize("shapes", [((3,), (5,)), ((3,), (4, 1)), ((0, 1), (4,))])
def test_inputs_that_do_not_fit_their_types_are_refused(shapes: Any) -> None:
    entry = EntryOp("main", [("x", vector(S)), ("y", vector(S + 1))], ["y"])
    module = module_of(closed(entry, [], [entry.body.block.args[1]]))
    x, y = (np.zeros(s, np.float32) for s in shapes)
    with pytest.raises(CompileError, match="E0208"):
        evaluate(module, {"x": x, "y": y})
    fits = evaluate(module, {"x": np.zeros(3, np.float32), "y": np.ones(4, np.float32)})
    assert fits["y"].shape == (4,)


def test_a_size_that_data_decides_is_bound_anew_in_every_turn() -> None:
    """Each turn counts the places of ``i < bound``: 3, 2, 1, so that the size changes."""
    count, turns = symbol("count"), symbol("turns")
    rank0 = Spec((), i64)
    entry = EntryOp(
        "main", [("n", rank0), ("go", Spec((), boolean)), ("x", vector(S, i64))], ["y", "sizes"]
    )
    n, go, x = entry.body.block.args
    body = Block(
        arg_types=[TensorType(rank0), TensorType.of((), boolean), TensorType(vector(S, i64))]
    )
    step, going, line = body.args
    above = MapOp.make((line, step), fn="gt")
    places = NonZeroOp.make(above.y, count=(count,))
    size = DimValuesOp.make(values=(count,))
    body.add_ops([above, places, size, ReturnOp([going, line, size.y])])
    stacked = TensorType.of((turns, 1), i64)
    loop = LoopOp(n, go, [x], Region(body), [TensorType(vector(S, i64)), stacked], turns, 1)
    module = module_of(closed(entry, [loop], list(loop.ys)))
    inputs = {"n": np.array(3), "go": np.array(True), "x": np.arange(4)}
    result = evaluate(module, inputs)
    np.testing.assert_array_equal(result["sizes"], [[3], [2], [1]])
    none = evaluate(module, inputs | {"n": np.array(0)})
    assert none["sizes"].shape == (0, 1)
    np.testing.assert_array_equal(none["y"], np.arange(4))


def test_bound_sizes_are_used_by_later_operators() -> None:
    size = symbol("size")
    entry = EntryOp("main", [("n", vector(as_expr(1), i64))], ["y"])
    bound = BindDimsOp.make(entry.body.block.args[0], symbols=(size,))
    line = IotaOp.make(shape=(size + 1,), axis=0, dtype=i64)
    module = module_of(closed(entry, [bound, line], [line.y]))
    np.testing.assert_array_equal(evaluate(module, {"n": np.array([3])})["y"], [0, 1, 2, 3])


@pytest.mark.parametrize("chosen", [True, False])
def test_a_branch_runs_one_side_and_a_kernel_runs_by_name(chosen: bool) -> None:
    body = Block(arg_types=[TensorType(vector(S))])
    negated = MapOp.make((body.args[0],), fn="neg")
    body.add_ops([negated, ReturnOp([negated.y])])
    entry = EntryOp("main", [("x", vector(S)), ("go", Spec((), boolean))], ["y"])
    x, go = entry.body.block.args
    call = CallOp("negate", [x], [TensorType(vector(S))])
    sides = [Region(Block([ReturnOp([call.results[0]])])), Region(Block([ReturnOp([x])]))]
    branch = IfOp(go, sides[0], sides[1], [TensorType(vector(S))])
    module = module_of(
        KernelOp("negate", Region(body)), closed(entry, [call, branch], list(branch.ys))
    )
    result = evaluate(module, {"x": np.ones(2, np.float32), "go": np.array(chosen)})
    np.testing.assert_array_equal(result["y"], [-1, -1] if chosen else [1, 1])
