"""A step on pages computes what the step on past keys and values does."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.decoding import PAGE
from tapeout.ir.dtypes import i64
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import spec
from tapeout.passes.cache.page_caches import PageCaches
from tapeout.passes.manager import run

Array = np.ndarray[Any, Any]
HEADS, GROUPS, DEPTH, WORDS = 4, 2, 8, 9


def step(graph: Any, *, window: int = 0, low: float | None = None, causal: bool = True) -> Module:
    """One layer: embedding, positions added, attention on a cache, a product, a cap."""
    cache = f"f32 1, {GROUPS}, T, {DEPTH}"
    g = graph(input_ids="i64 1, S", k="f32 1, 2, T, 8", v=cache)
    tokens, past = spec(g["input_ids"]).dims[1], spec(g["k"]).dims[2]
    place = g.map("add", g.iota((1, tokens), 1), g.size(past, i64))
    width = HEADS * DEPTH
    x = g.op(GatherOp, g.weight(WORDS, width), g["input_ids"], axis=0)
    x = g.map("add", x, g.op(GatherOp, g.weight(64, width), place, axis=0))
    q = g.transpose(g.reshape(x, (1, tokens, HEADS, DEPTH)), (0, 2, 1, 3))
    k, v = (
        g.transpose(
            g.reshape(g.matmul(x, g.weight(width, GROUPS * DEPTH)), (1, tokens, GROUPS, DEPTH)),
            (0, 2, 1, 3),
        )
        for _ in "kv"
    )
    keys, values = (g.op(ConcatOp, [g[n], y], axis=2) for n, y in (("k", k), ("v", v)))
    seen = None
    if window:
        i = g.map("add", g.iota((tokens, 1), 0), g.size(past, i64))
        near = g.map("sub", i, g.constant(window, i64))
        seen = g.map("gt", g.iota((1, past + tokens), 1), near)
        if low is not None:
            seen = g.map("where", seen, g.fixed(0), g.fixed(low))
    offset = {"causal": True, "causal_offset": (past,)} if causal else {}
    mixed = g.op(AttentionOp, q, keys, values, seen, scale=0.3, **offset)
    y = g.reshape(g.transpose(mixed, (0, 2, 1, 3)), (1, tokens, width))
    logits = g.map("tanh", g.matmul(y, g.weight(width, WORDS)))
    return g.returning(logits, keys, values)


@pytest.mark.parametrize(("window", "low"), [(0, None), (3, None), (3, float("-inf")), (1, -1e38)])
@pytest.mark.parametrize("past", [1, 5, PAGE - 2])
def test_pages_hold_what_was_past(graph: Any, window: int, low: float | None, past: int) -> None:
    module = step(graph, window=window, low=low)
    random = np.random.default_rng(past)
    tokens = 4 if past < 50 else 2
    ids = random.integers(0, WORDS, tokens)
    cached = [random.standard_normal((1, GROUPS, past, DEPTH)).astype(np.float32) for _ in "kv"]
    want = evaluate(module, {"input_ids": ids[None], "k": cached[0], "v": cached[1]})
    run(module, [PageCaches()], verify="each")
    keys = random.standard_normal((3, GROUPS, DEPTH, PAGE)).astype(np.float32)
    values = random.standard_normal((3, GROUPS, PAGE, DEPTH)).astype(np.float32)
    table = np.array([[1, 2], [2, 0]], np.int32)
    place = np.arange(past + tokens)
    page, line = table[1, place // PAGE], place % PAGE
    keys[page[:past], :, :, line[:past]] = cached[0][0].transpose(1, 0, 2)
    values[page[:past], :, line[:past]] = cached[1][0].transpose(1, 0, 2)
    rows = np.array([tokens - 1, 0])
    have = evaluate(
        module,
        {
            "ids": ids,
            "positions": place[past:],
            "rows": rows,
            "slots": page[past:].astype(np.int64) * PAGE + line[past:],
            "sequence": np.ones(tokens, np.int32),
            "end": (place[past:] + 1).astype(np.int32),
            "table": table,
            **({} if window else {"tree": np.zeros(tokens, np.int64)}),
            "keys.0": keys,
            "values.0": values,
        },
    )
    np.testing.assert_allclose(have["logits"], want["y0"][0, rows], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        have["keys.0"][page, :, :, line].transpose(1, 0, 2), want["y1"][0]
    )


def test_attention_that_sees_what_follows_is_refused(graph: Any) -> None:
    with pytest.raises(CompileError, match="E0408"):
        PageCaches().apply(step(graph, causal=False))
