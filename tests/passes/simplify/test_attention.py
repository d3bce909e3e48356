"""Attention is found in the forms that exporters write, and left where it would cost."""

import math
from typing import Any

import numpy as np
import pytest

from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.types import spec
from tapeout.passes.simplify.attention import RecomposeAttention
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.common import CommonSubexpressions

ALL = [Canonicalise(), CommonSubexpressions(), RecomposeAttention(), Canonicalise()]
SIZES = ({"B": 2, "S": 5, "T": 9}, {"B": 1, "S": 1, "T": 1}, {"B": 1, "S": 33, "T": 40})
LOWEST = float(np.finfo(np.float32).min)


def inputs(graph: Any, heads: Any = 4, groups: Any = 4, **more: Any) -> Any:
    return graph(
        q=f"f32 B, {heads}, S, 16", k=f"f32 B, {groups}, T, 16", v=f"f32 B, {groups}, T, 24", **more
    )


def scores(g: Any, form: Any = "transpose") -> Any:
    """``q @ k^T / 4`` as one exporter or another writes it."""
    q, k = g["q"], g["k"]
    heads = int(spec(k).dims[1])
    if form == "merged":
        flat = g.transpose(g.shaped(k, f"{heads}*B, T, 16"), (0, 2, 1))
        turned = g.shaped(flat, f"B, {heads}, 16, T")
        root = g.fixed(math.sqrt(0.25))
        return g.matmul(g.map("mul", q, root), g.map("mul", turned, root))
    turned = g.transpose(k, (0, 1, 3, 2))
    if form == "divided":
        return g.map("div", g.matmul(q, turned), g.fixed(4))
    if form == "query scaled":
        return g.matmul(g.map("mul", q, g.fixed(0.25)), turned)
    return g.map("mul", g.matmul(q, turned), g.fixed(0.25))


def softmax(g: Any, x: Any) -> Any:
    return g.op(SoftmaxOp, x, axis=-1)


def guarded(g: Any, p: Any) -> Any:
    """NaN to zero, as the exporter guards a query that sees no key."""
    return g.map("where", g.map("is_nan", p), g.fixed(0), p)


@pytest.mark.parametrize("form", ["transpose", "divided", "query scaled", "merged"])
@pytest.mark.parametrize("guard", [True, False])
def test_attention_is_found_in_every_form_of_its_scale(
    graph: Any, check: Any, form: Any, guard: Any
) -> None:
    g = inputs(graph)
    p = softmax(g, scores(g, form))
    module = g.returning(g.matmul(guarded(g, p) if guard else p, g["v"]))
    assert check(module, ALL, *SIZES) == {"attention": 1}
    found = next(op for op in module.ir.walk() if op.name == "nn.attention")
    assert found.scale.data == 0.25


@pytest.mark.parametrize("mask", ["f32 B, 1, S, T", "f32 1, 1, 1, T", "f32 S, T", "f32 B, 4, S, T"])
def test_an_added_mask_is_taken_in(graph: Any, check: Any, mask: Any) -> None:
    g = inputs(graph, m=mask)
    y = g.matmul(softmax(g, g.map("add", g["m"], scores(g))), g["v"])
    assert check(g.returning(y), ALL, *SIZES) == {"attention": 1}


def test_a_mask_that_hides_by_infinity_becomes_boolean(graph: Any, check: Any) -> None:
    g = inputs(graph, m="bool B, 1, 1, T")
    added = g.map("where", g["m"], g.fixed(0), g.fixed(-np.inf))
    p = guarded(g, softmax(g, g.map("add", scores(g), added)))
    module = g.returning(g.matmul(p, g["v"]))
    assert check(module, ALL, *SIZES) == {"attention": 1}


def test_a_mask_that_hides_by_the_lowest_number_stays_a_number(graph: Any, check: Any) -> None:
    g = inputs(graph, m="bool B, 1, 1, T")
    added = g.map("where", g["m"], g.fixed(0), g.fixed(LOWEST))
    y = g.matmul(guarded(g, softmax(g, g.map("add", scores(g), added))), g["v"])
    # A query that sees no key averages all values here; a boolean mask would give zero.
    assert check(g.returning(y), ALL, *SIZES) == {"attention": 1, "where": 1}


@pytest.mark.parametrize("low", [-np.inf, LOWEST])
@pytest.mark.parametrize("flipped", [True, False])
def test_scores_chosen_by_a_condition_are_masked_scores(
    graph: Any, check: Any, low: Any, flipped: Any
) -> None:
    g = inputs(graph, m="bool B, 1, S, T")
    s, low_value = scores(g), g.fixed(low)
    pair = (low_value, s) if flipped else (s, low_value)
    y = g.matmul(guarded(g, softmax(g, g.map("where", g["m"], *pair))), g["v"])
    assert check(g.returning(y), ALL, *SIZES)["attention"] == 1


def test_a_mask_repeated_over_queries_is_held_once(graph: Any, check: Any) -> None:
    g = inputs(graph, m="bool B, 1, 1, T")
    b, _, s, _ = spec(g["q"]).dims
    wide = g.expand(g["m"], (b, 1, s, spec(g["k"]).dims[2]))
    added = g.map("where", wide, g.fixed(0), g.fixed(LOWEST))
    module = g.returning(g.matmul(softmax(g, g.map("add", scores(g), added)), g["v"]))
    assert check(module, ALL, *SIZES) == {"attention": 1, "where": 1}
    where = next(op for op in module.ir.walk() if op.name == "nn.map")
    assert spec(where.results[0]).dims[2] == 1


def fixed_length(graph: Any) -> Any:
    return graph(q="f32 B, 4, 7, 16", k="f32 B, 4, 7, 16", v="f32 B, 4, 7, 24")


def with_mask(g: Any, mask: Any) -> Any:
    turned = g.transpose(g["k"], (0, 1, 3, 2))
    s = g.map("mul", g.matmul(g["q"], turned), g.fixed(0.25))
    return g.returning(g.matmul(softmax(g, g.map("add", s, g.fixed(mask))), g["v"]))


@pytest.mark.parametrize("low", [-np.inf, LOWEST, -1e30])
def test_a_fixed_triangle_is_causal(graph: Any, check: Any, low: Any) -> None:
    module = with_mask(fixed_length(graph), np.where(np.tri(7), 0, low)[None, None])
    assert check(module, ALL, {"B": 2}) == {"attention": 1}
    found = next(op for op in module.ir.walk() if op.name == "nn.attention")
    assert found.causal.data
    assert found.mask is None


@pytest.mark.parametrize(
    "mask",
    [
        np.where(np.tri(7), 0, -1e4),
        np.where(np.tri(7, k=1), 0, -np.inf),
        np.where(np.tri(7).T, 0, -np.inf),
        np.where(np.tri(7), 0.5, -np.inf),
    ],
)
def test_other_fixed_masks_stay(graph: Any, check: Any, mask: Any) -> None:
    module = with_mask(fixed_length(graph), mask)
    check(module, ALL, {"B": 2})
    found = next(op for op in module.ir.walk() if op.name == "nn.attention")
    assert not found.causal.data
    assert found.mask is not None


def test_a_mask_of_zeros_is_none(graph: Any, check: Any) -> None:
    module = with_mask(fixed_length(graph), np.zeros((7, 7)))
    assert check(module, ALL, {"B": 2}) == {"attention": 1}


@pytest.mark.parametrize("detour", [True, False])
def test_repeated_key_heads_are_shared(graph: Any, check: Any, detour: Any) -> None:
    g = inputs(graph, heads=8, groups=2)
    b, heads, keys, _ = spec(g["k"]).dims
    repeated: list[Any] = []
    for name, depth in (("k", 16), ("v", 24)):
        parted = g.reshape(g[name], (b, heads, 1, keys, depth))
        wide = g.expand(parted, (b, heads, 4, keys, depth))
        repeated.append(g.reshape(wide, (b, 8, keys, depth)))
    k, v = repeated
    if detour:
        turned = g.shaped(g.transpose(g.shaped(k, "8*B, T, 16"), (0, 2, 1)), "B, 8, 16, T")
    else:
        turned = g.transpose(k, (0, 1, 3, 2))
    p = softmax(g, g.map("mul", g.matmul(g["q"], turned), g.fixed(0.25)))
    module = g.returning(g.matmul(p, v))
    assert check(module, ALL, *SIZES) == {"attention": 1}


def test_tiled_key_heads_are_not_shared(graph: Any, check: Any) -> None:
    g = inputs(graph, heads=8, groups=2)
    b, heads, keys, _ = spec(g["k"]).dims
    tiled: list[Any] = []
    for name, depth in (("k", 16), ("v", 24)):
        wide = g.expand(g.reshape(g[name], (b, 1, heads, keys, depth)), (b, 4, heads, keys, depth))
        tiled.append(g.reshape(wide, (b, 8, keys, depth)))
    k, v = tiled
    p = softmax(g, g.matmul(g["q"], g.transpose(k, (0, 1, 3, 2))))
    left = check(g.returning(g.matmul(p, v)), ALL, *SIZES)
    assert left["attention"] == 1
    assert left["expand"] == 2


def test_a_cap_on_the_scores_is_taken_in(graph: Any, check: Any) -> None:
    g = inputs(graph, m="f32 B, 1, S, T")
    capped = g.map("mul", g.map("tanh", g.map("div", scores(g), g.fixed(30))), g.fixed(30))
    y = g.matmul(softmax(g, g.map("add", capped, g["m"])), g["v"])
    assert check(g.returning(y), ALL, *SIZES) == {"attention": 1}


def test_matrices_without_a_batch_are_a_batch_of_one(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, S, 16", k="f32 B, T, 16", v="f32 B, T, 24", m="f32 S, T")
    s = g.map("mul", g.matmul(g["q"], g.transpose(g["k"], (0, 2, 1))), g.fixed(0.25))
    y = g.matmul(softmax(g, g.map("add", s, g["m"])), g["v"])
    assert check(g.returning(y), ALL, *SIZES) == {"attention": 1, "reshape": 4}


def test_probabilities_that_are_an_output_stay(graph: Any, check: Any) -> None:
    g = inputs(graph)
    p = softmax(g, scores(g))
    assert "attention" not in check(g.returning(g.matmul(p, g["v"]), p), ALL, *SIZES)


def test_scores_that_are_an_output_stay(graph: Any, check: Any) -> None:
    g = inputs(graph)
    s = scores(g)
    assert "attention" not in check(g.returning(g.matmul(softmax(g, s), g["v"]), s), ALL, *SIZES)


def test_a_softmax_over_queries_is_no_attention(graph: Any, check: Any) -> None:
    g = inputs(graph)
    p = g.op(SoftmaxOp, scores(g), axis=2)
    assert "attention" not in check(g.returning(g.matmul(p, g["v"])), ALL, *SIZES)


def test_a_mask_scaled_with_the_scores_is_no_attention(graph: Any, check: Any) -> None:
    g = inputs(graph, m="f32 B, 1, S, T")
    s = g.map("mul", g.map("add", scores(g), g["m"]), g.fixed(0.5))
    assert "attention" not in check(g.returning(g.matmul(softmax(g, s), g["v"])), ALL, *SIZES)


def test_a_guard_that_gives_another_number_is_no_attention(graph: Any, check: Any) -> None:
    g = inputs(graph)
    p = softmax(g, scores(g))
    safe = g.map("where", g.map("is_nan", p), g.fixed(1), p)
    assert "attention" not in check(g.returning(g.matmul(safe, g["v"])), ALL, *SIZES)
