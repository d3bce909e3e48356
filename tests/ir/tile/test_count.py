"""Counts of a program are those of a run that watches every operator."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.ir import Operation

from tapeout.ir.dtypes import i64
from tapeout.ir.scalars import SCALARS
from tapeout.ir.tile import interpret, ops
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.count import Counts, DataDecides, count
from tapeout.ir.tile.ops import ProgramOp, buffer_of, index_operand, tile_of

Array = np.ndarray[Any, Any]
Arrays = Callable[[ProgramOp, int], list[Array]]


def watched(program: ProgramOp, inputs: list[Array], n: int) -> Counts:
    """The counts of one run, operator by operator."""
    loaded, stored, work = Counter[str](), Counter[str](), Counter[str]()

    def watch(op: Operation, mask: Array | None) -> None:
        if isinstance(op, ops.LoadOp | ops.StoreOp):
            assert mask is not None
            spec = buffer_of(op.buffer)
            into = loaded if isinstance(op, ops.LoadOp) else stored
            into[spec.space] += int(mask.sum()) * spec.dtype.bytes
        elif isinstance(op, ops.MapOp):
            work["flops"] += SCALARS[op.fn.data].flops * math.prod(tile_of(op.y).shape)
        elif isinstance(op, ops.ReduceOp):
            work["flops"] += math.prod(tile_of(op.x).shape) - math.prod(tile_of(op.y).shape)
        elif isinstance(op, ops.DotOp):
            (m, k), (_, columns) = tile_of(op.a).shape, tile_of(op.b).shape
            work["flops"] += 2 * m * k * columns
        elif isinstance(op, ops.LookUpOp):
            rows, columns = tile_of(op.acc).shape
            work["flops"] += rows * columns * op.bits * op.steps
            loaded[buffer_of(op.codes).space] += columns * op.bits * op.steps // 2
            loaded[buffer_of(op.tables).space] += rows * op.steps * 32

    interpret.run(program, inputs, {"N": n}, watch=watch)
    return Counts(work["flops"], dict(loaded), dict(stored))


@pytest.mark.parametrize("n", [1, 3, 4, 7, 12])
def test_counts_are_those_of_a_run(program: ProgramOp, arrays: Arrays, n: int) -> None:
    assert count(program, {"N": n}) == watched(program, arrays(program, n), n)


def test_lanes_outside_the_bounds_move_no_bytes(program: ProgramOp) -> None:
    if program.sym_name.data == "sums":
        found = count(program, {"N": 5})
        assert found.loaded == {"global": 3 * 5 * 4}
        assert found.stored == {"local": 3 * 5 * 4, "global": 3 * 4}


def test_independent_loops_are_multiplied_not_gone_through(begin: Callable[..., Any]) -> None:
    b: TileBuilder = begin({"x0": [1]}, {"y0": [1]})
    with b.loop("i", 0, 10**6), b.loop("j", 0, 10**6):
        b.store(b.load(b.inputs[0], [0], (1, 1)), b.outputs[0], [0])
    assert count(b.program, {}) == Counts(0, {"global": 4 * 10**12}, {"global": 4 * 10**12})


def test_a_bound_that_data_decides_is_refused(begin: Callable[..., Any]) -> None:
    b: TileBuilder = begin({"x0": [1]}, {"y0": [1]}, {"x0": i64, "y0": i64})
    n = b.load(b.inputs[0], [0], (1, 1))
    with b.loop("k", 0, index_operand(0), 1, indices=[n]):
        b.store(n, b.outputs[0], [0])
    with pytest.raises(DataDecides, match=r"tile\.for"):
        count(b.program, {})
