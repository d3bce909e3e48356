"""Every operator: its reference agrees with its shape rule, its text and its cost hold."""

from typing import Any

import numpy as np

from tapeout.ir.cost import bytes_moved
from tapeout.ir.dialect import operators
from tapeout.ir.expr import as_expr
from tapeout.ir.op import NNOp

# These run in the evaluator itself: it holds the weights and the symbols.
WITHOUT_REFERENCE = {"nn.weight", "nn.bind_dims"}


def test_every_operator_has_a_sample(samples: list[Any]) -> None:
    classes = {n for n, c in operators().items() if issubclass(c, NNOp)}
    assert classes - {s.name for s in samples} == WITHOUT_REFERENCE


def test_the_reference_fits_the_inferred_types(sample: Any) -> None:
    results = sample.run()
    assert results
    assert all(isinstance(r, np.ndarray) for r in results)


def test_flops_are_an_expression_and_bytes_are_counted(sample: Any) -> None:
    module, _ = sample.module()
    (entry,) = module.entries()
    op = entry.body.block.first_op
    assert isinstance(op, NNOp)
    assert (as_expr(op.flops()).constant or 0) >= 0
    assert bytes_moved(op) != 0


def test_every_reference_leaves_its_operands_alone(sample: Any) -> None:
    before = [a.copy() for a in sample.arrays()]
    sample.run()
    for old, new in zip(before, sample.arrays(), strict=True):
        np.testing.assert_array_equal(old, new)
