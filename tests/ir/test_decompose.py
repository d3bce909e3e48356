"""A decomposition means what the operator means."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.ir.dialect import operators
from tapeout.ir.dtypes import f32
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import symbol
from tapeout.ir.module import Module
from tapeout.ir.op import NNOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec

COARSE = [
    c for c in operators().values() if issubclass(c, NNOp) and c.decompose is not NNOp.decompose
]


def decompose_first(entry: EntryOp) -> Sequence[SSAValue] | None:
    """Replace the entry's first operator by its decomposition."""
    op = entry.body.block.first_op
    assert isinstance(op, NNOp)
    values = op.decompose(Builder(InsertPoint.before(op)))
    if values is not None:
        assert [v.type for v in values] == [r.type for r in op.results]
        for old, new in zip(op.results, values, strict=True):
            old.replace_all_uses_with(new)
        op.detach()
        op.erase()
    return values


def test_decompositions_agree_with_the_reference(sample: Any) -> None:
    module, inputs = sample.module()
    (entry,) = module.entries()
    want = sample.run()
    if decompose_first(entry) is None:
        return
    module.ir.verify()
    assert sample.name not in {op.name for op in entry.body.block.ops} or sample.name == "nn.pool"
    for result, expected in zip(evaluate(module, inputs).values(), want, strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(
            result.astype(np.float64),
            expected.astype(np.float64),
            rtol=sample.tolerance,
            atol=sample.tolerance,
        )


@pytest.mark.parametrize("cls", COARSE, ids=lambda c: c.name)
def test_every_decomposition_is_exercised(cls: type[NNOp], samples: list[Any]) -> None:
    def is_decomposed(sample: Any) -> bool:
        module, _ = sample.module()
        return decompose_first(next(module.entries())) is not None

    assert any(is_decomposed(s) for s in samples if s.name == cls.name)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_attention_of_symbolic_length_decomposes_once_for_every_length(size: int) -> None:
    length = symbol("S", 1, 8)
    spec = Spec((symbol("B", 1), 2 + length * 0, length, 4 + length * 0), f32)
    entry = EntryOp("main", [(name, spec) for name in "qkv"], ["y"])
    attention = operators()["nn.attention"]
    assert issubclass(attention, NNOp)
    op = attention.make(
        *entry.body.block.args, None, scale=0.5, causal=True, causal_offset=(length - 2,)
    )
    entry.body.block.add_ops([op, ReturnOp(op.results)])
    module = Module()
    module.ir.body.block.add_op(entry)
    random = np.random.default_rng(size)
    inputs = {n: random.standard_normal((2, 2, size, 4)).astype(np.float32) for n in "qkv"}
    want = evaluate(module, inputs)["y"]
    assert decompose_first(entry) is not None
    np.testing.assert_allclose(evaluate(module, inputs)["y"], want, rtol=1e-5, atol=1e-6)
