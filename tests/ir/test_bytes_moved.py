"""What operators and kernels move: counted by hand."""

from xdsl.ir import Block, Region

from tapeout.ir.cost import bytes_moved, kernel_cost
from tapeout.ir.dtypes import f32, i64
from tapeout.ir.expr import as_expr, symbol
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import KernelOp, ReturnOp
from tapeout.ir.types import Spec, TensorType

S = symbol("S", 1, 512)
TABLE = TensorType(Spec((as_expr(1000), as_expr(4)), f32))
INDICES = TensorType(Spec((S,), i64))


def test_a_gather_reads_the_rows_that_it_picks_not_the_table() -> None:
    block = Block(arg_types=[TABLE, INDICES])
    op = GatherOp.make(*block.args)
    # 16 bytes a row, read and written, and 8 an index.
    assert bytes_moved(op).evaluate({"S": 3}) == 3 * (16 + 16 + 8)
    assert bytes_moved(op).evaluate({"S": 512}) == 512 * (16 + 16 + 8)


def test_a_gather_of_more_rows_than_there_are_reads_the_table_once() -> None:
    block = Block(arg_types=[TABLE, TensorType(Spec((as_expr(5000),), i64))])
    op = GatherOp.make(*block.args)
    assert bytes_moved(op) == 1000 * 16 + 5000 * (16 + 8)


def test_a_kernel_moves_its_arguments_and_results_but_nothing_between() -> None:
    block = Block(arg_types=[TABLE, INDICES])
    rows = GatherOp.make(*block.args)
    relu = MapOp.make((rows.y,), fn="relu")
    doubled = MapOp.make((relu.results[0], rows.y), fn="add")
    block.add_ops([rows, relu, doubled, ReturnOp([doubled.results[0]])])
    cost = kernel_cost(KernelOp("k", Region(block)))
    assert cost.bytes.evaluate({"S": 3}) == 3 * (16 + 8 + 16)
    assert cost.flops.evaluate({"S": 3}) == 3 * 4 * 2
