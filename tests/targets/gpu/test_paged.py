"""Decoding on paged caches, as compiled: ragged batches are right, and the same bits every time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.rewriter import InsertPoint

from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, f32, i32
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import ExprLike, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.paged import PagedAttentionOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run

Array = np.ndarray[Any, Any]
Run = Callable[[Mapping[str, Array]], Array]
Together = Callable[[list[Module]], Callable[[int, Mapping[str, Array]], dict[str, Array]]]

HEADS, GROUPS, DEPTH, DEPTH_V, PAGE = 6, 2, 20, 24, 16
LENGTHS: Sequence[Sequence[int]] = [
    [1], [16], [17], [400], [129, 128], [1, 300, 5], [64, 64, 64, 64], [0, 33], [127, 255, 2, 31],
    [350, 1, 1, 200, 90],
]  # fmt: skip
"""Tokens in the cache, of ten batches: up to 25 pages, which are up to 4 chunks."""


def model() -> Module:
    """One token of each of ``T`` sequences attends to what its pages have."""

    def of(*dims: ExprLike, dtype: DType = f32) -> Spec:
        return Spec(tuple(map(as_expr, dims)), dtype)

    t, columns, pages = symbol("T", 1, 256), symbol("L", 1, 64), symbol("P", 1, 512)
    inputs = {
        "q": of(t, HEADS, DEPTH),
        "keys": of(pages, GROUPS, DEPTH, PAGE),
        "values": of(pages, GROUPS, PAGE, DEPTH_V),
        "table": of(t, columns, dtype=i32),
        **{n: of(t, dtype=i32) for n in ("sequence", "first", "end")},
    }
    entry, made = EntryOp("main", list(inputs.items()), ("y",)), Module()
    made.ir.body.block.add_op(entry)
    emit = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    y = emit.op(PagedAttentionOp, *entry.body.block.args, None, scale=DEPTH**-0.5)
    emit.builder.insert(ReturnOp([y]))
    run(made, [Fuse()])
    return made


def drawn(lengths: Sequence[int]) -> dict[str, Array]:
    """A batch whose pages lie anywhere, with what is no number wherever no token has written."""
    random = np.random.default_rng(list(lengths))
    need = [max(1, -(-n // PAGE)) for n in lengths]
    pages, count = random.permutation(sum(need)).astype(np.int32), len(lengths)
    table = np.zeros((count, max(need)), np.int32)
    keys = np.full((len(pages), GROUPS, DEPTH, PAGE), np.nan, np.float32)
    values = np.full((len(pages), GROUPS, PAGE, DEPTH_V), np.nan, np.float32)
    for i, n in enumerate(need):
        table[i, :n] = pages[sum(need[:i]) : sum(need[: i + 1])]
        for place in range(lengths[i]):
            page, line = table[i, place // PAGE], place % PAGE
            keys[page, :, :, line] = random.standard_normal((GROUPS, DEPTH))
            values[page, :, line] = random.standard_normal((GROUPS, DEPTH_V))
    return {
        "q": random.standard_normal((count, HEADS, DEPTH)).astype(np.float32),
        "keys": keys,
        "values": values,
        "table": table,
        "sequence": np.arange(count, dtype=np.int32),
        "first": np.zeros(count, np.int32),
        "end": np.array(lengths, np.int32),
    }


def alone(batch: Mapping[str, Array], i: int) -> dict[str, Array]:
    """One sequence of a batch."""
    one = {n: a if n in ("keys", "values") else a[i : i + 1] for n, a in batch.items()}
    return {**one, "sequence": np.zeros(1, np.int32)}


@pytest.fixture(scope="module")
def attend(together: Together) -> Run:
    compiled = together([model()])
    return lambda batch: compiled(0, batch)["y"]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_ragged_batch_is_right_and_each_of_it_what_it_is_alone(
    attend: Run, lengths: Sequence[int]
) -> None:
    batch = drawn(lengths)
    have = attend(batch)
    finite = {n: np.nan_to_num(a) if a.dtype == np.float32 else a for n, a in batch.items()}
    np.testing.assert_allclose(have, evaluate(model(), finite)["y"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(attend(batch), have)
    for i in range(len(lengths) if len(lengths) > 1 else 0):
        np.testing.assert_array_equal(attend(alone(batch, i)), have[i : i + 1])


def test_a_batch_too_large_for_chunks_apart_gives_the_same_bits(attend: Run) -> None:
    batch = drawn([140, *[1] * 128, 260])
    have = attend(batch)
    for i in (0, 1, 129):
        np.testing.assert_array_equal(attend(alone(batch, i)), have[i : i + 1])
