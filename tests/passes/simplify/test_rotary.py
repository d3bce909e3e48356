"""Rotary embeddings are found where the angles of both halves are the same by construction."""

from typing import Any

import numpy as np

from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import spec
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.common import CommonSubexpressions
from tapeout.passes.simplify.dead import DropDead
from tapeout.passes.simplify.rotary import RecomposeRotary

ALL = [
    Canonicalise(),
    CommonSubexpressions(),
    RecomposeRotary(),
    Canonicalise(),
    CommonSubexpressions(),
    DropDead(),
]
SIZES = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 1, "S": 40})


def turned(g: Any, x: Any, negated: Any = "high") -> Any:
    """``concat(-x[D/2:], x[:D/2])``; or with the wrong half negated."""
    half = int(spec(x).dims[-1]) // 2
    low, high = g.part(x, 3, 0, half), g.part(x, 3, half, half)
    if negated == "high":
        return g.op(ConcatOp, [g.map("neg", high), low], axis=-1)
    return g.op(ConcatOp, [high, g.map("neg", low)], axis=-1)


def angles(g: Any, joined: Any = True) -> Any:
    """Angles ``[B, S, 16]`` of positions and frequencies, both halves the same."""
    frequencies = g.fixed(0.7 ** np.arange(8))
    one = g.map("mul", g["p"], frequencies)
    other = one if joined else g.map("add", one, g.fixed(1))
    return g.op(ConcatOp, [one, other], axis=-1)


def rotated(g: Any, x: Any, theta: Any, **how: Any) -> Any:
    cos, sin = (g.shaped(g.map(fn, theta), "B, 1, S, 16") for fn in ("cos", "sin"))
    return g.map("add", g.map("mul", x, cos), g.map("mul", turned(g, x, **how), sin))


def test_queries_and_keys_rotate_by_one_pair_of_tables(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, S, 16", k="f32 B, 2, S, 16", p="f32 B, S, 1")
    theta = angles(g)
    left = check(g.returning(rotated(g, g["q"], theta), rotated(g, g["k"], theta)), ALL, *SIZES)
    assert left == {"rotary": 2, "mul": 1, "cos": 1, "sin": 1, "reshape": 2}


def test_angles_of_some_tokens_are_found_too(graph: Any, check: Any) -> None:
    g = graph(q="f32 1, 4, S, 16", p="f32 1, T, 1", at="i64 S")
    frequencies = g.fixed(0.7 ** np.arange(8))
    one = g.map("mul", g["p"], frequencies)
    theta = g.op(ConcatOp, [one, one], axis=-1)
    cos, sin = (
        g.shaped(g.op(GatherOp, g.map(fn, theta), g["at"], axis=1), "1, 1, S, 16")
        for fn in ("cos", "sin")
    )
    y = g.map("add", g.map("mul", g["q"], cos), g.map("mul", turned(g, g["q"]), sin))
    left = check(g.returning(y), ALL, {"S": 5, "T": 9}, {"S": 1, "T": 12})
    assert left["rotary"] == 1
    assert "concat" not in left


def test_fixed_tables_are_halved(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, 5, 16")
    theta = np.arange(5.0)[:, None] * 0.7 ** np.arange(8)
    cos, sin = (g.fixed(np.tile(fn(theta), 2)) for fn in (np.cos, np.sin))
    y = g.map("add", g.map("mul", g["q"], cos), g.map("mul", turned(g, g["q"]), sin))
    assert check(g.returning(y), ALL, {"B": 2}) == {"rotary": 1}


def test_tables_whose_halves_differ_stay(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, S, 16", p="f32 B, S, 1")
    y = rotated(g, g["q"], angles(g, joined=False))
    assert "rotary" not in check(g.returning(y), ALL, *SIZES)


def test_tables_of_unknown_origin_stay(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, S, 16", p="f32 B, S, 16")
    assert "rotary" not in check(g.returning(rotated(g, g["q"], g["p"])), ALL, *SIZES)


def test_the_other_direction_is_no_rotary(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, S, 16", p="f32 B, S, 1")
    y = rotated(g, g["q"], angles(g), negated="low")
    assert "rotary" not in check(g.returning(y), ALL, *SIZES)


def test_a_part_of_the_channels_rotates(graph: Any, check: Any) -> None:
    g = graph(q="f32 B, 4, S, 24", p="f32 B, S, 1")
    part, rest = g.part(g["q"], 3, 0, 16), g.part(g["q"], 3, 16, 8)
    y = g.op(ConcatOp, [rotated(g, part, angles(g)), rest], axis=3)
    module = g.returning(y)
    left = check(module, ALL, *SIZES)
    assert left == {"rotary": 1, "mul": 1, "cos": 1, "sin": 1, "reshape": 2}
    found = next(op for op in module.ir.walk() if op.name == "nn.rotary")
    assert found.rotary_dim.data == 16
