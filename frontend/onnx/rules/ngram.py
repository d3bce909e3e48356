"""Counts of n-grams in sequences of numbers."""

from collections.abc import Sequence

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import insert_axis, need_rank, one_of
from tapeout.frontend.onnx.value import Array, Value
from tapeout.ir.dtypes import f32, i64
from tapeout.ir.expr import is_at_least, maximum
from tapeout.ir.ops.contract import MatmulOp

MOST = 1 << 20
"""The most numbers in the pool, or entries of the output, that are written out."""


@rule("TfIdfVectorizer", since=9)
def tfidf_vectorizer(b: Builder, node: Call, x: Value) -> Value:
    """How often each n-gram of the pool stands in each row of ``x``, weighed by ``mode``.

    An n-gram matches places ``skip + 1`` apart, for each ``skip`` up to ``max_skip_count``.
    """
    need_rank(node, "the input", x, 1, 2)
    rows = b.convert(insert_axis(b, x, 0) if x.rank == 1 else x, i64)
    places = np.array(node.integers("ngram_indexes"), np.int64)
    counts = [
        _occurrences(b, node, rows, grams) for grams in _pool(node, len(places)) if grams.size
    ]
    total = b.convert(b.concat(counts, 1), f32)
    mode = one_of(node, "mode", "", ("TF", "IDF", "TFIDF"))
    if mode == "IDF":
        total = b.map("min", total, 1)
    weights = np.array(node.reals("weights") or [1.0] * len(places), np.float32)
    if len(weights) != len(places):
        node.invalid("one weight for each n-gram is needed", ("weights", len(weights)))
    into = np.zeros((len(places), int(places.max()) + 1), np.float32)
    into[np.arange(len(places)), places] = 1 if mode == "TF" else weights
    y = b.make(MatmulOp, total, b.constant(into))
    return b.reshape(y, y.dims[1:]) if x.rank == 1 else y


def _pool(node: Call, count: int) -> list[Array]:
    """The n-grams of each length ``n``, ``[m, n]``, in the order of the pool."""
    pool = np.array(node.integers("pool_int64s"), np.int64)
    if not pool.size:
        node.refuse("n-grams of text", fix="encode text before the model")
    ends = [*node.integers("ngram_counts"), len(pool)]
    sizes = np.diff(ends).tolist()
    whole = [size % n == 0 and size >= 0 for n, size in enumerate(sizes, 1)]
    places = node.integers("ngram_indexes")
    total = sum(size // n for n, size in enumerate(sizes, 1))
    in_range = count and min(places) >= 0 and (max(places) + 1) * count <= MOST
    if not (all(whole) and ends[0] == 0 and total == count and in_range):
        node.invalid("pool, counts and indexes do not fit together", ("n-grams", count))
    return [
        pool[s : s + k].reshape(-1, n) for n, (s, k) in enumerate(zip(ends, sizes, strict=False), 1)
    ]


def _occurrences(b: Builder, node: Call, rows: Value, grams: Array) -> Value:
    """``[B, m]``: how often each n-gram stands in each row, over all skips."""
    count, n = grams.shape
    least, most = node.integer("min_gram_length"), node.integer("max_gram_length")
    skips = node.integer("max_skip_count") if n > 1 else 0
    if least < 1 or most < least or not 0 <= skips <= 64:
        node.invalid("lengths or skips out of range", ("lengths", (least, most)), ("skips", skips))
    total = b.filled([rows.dims[0], count], 0, i64)
    for skip in range(skips + 1) if least <= n <= most else ():
        total = b.map("add", total, _matches(b, rows, [c for c in grams.T], skip + 1))
    return total


def _matches(b: Builder, rows: Value, columns: Sequence[Array], step: int) -> Value:
    """``[B, m]``: at how many places the n-gram's elements stand ``step`` apart."""
    room = rows.dims[1] - (len(columns) - 1) * step
    room = room if is_at_least(room, 0) else maximum(room, 0)
    if room == 0:
        return b.filled([rows.dims[0], len(columns[0])], 0, i64)
    found: Value | None = None
    for i, column in enumerate(columns):
        part = insert_axis(b, b.slice_axis(rows, 1, i * step, room), 2)
        same = b.map("eq", part, b.constant(np.ascontiguousarray(column)))
        found = same if found is None else b.map("and", found, same)
    assert found is not None, "an n-gram has elements"
    return b.reduce("sum", b.convert(found, i64), [1])
