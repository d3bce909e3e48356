"""Attention on paged caches: against the evaluator, and the same bits whatever stands beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import InsertPoint

import tapeout
from tapeout.frontend import driver
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, f32, i32, i64
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import ExprLike, as_expr, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.paged import PagedAttentionOp, WriteSlotsOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.runtime import artifact, cpu
from tapeout.runtime.program import Program
from tapeout.targets.cpu import target
from tapeout.targets.cpu.device import devices

Array = np.ndarray[Any, Any]

PAGE = 64
HERE = [
    name
    for name in ("avx512", "avx2", "generic")
    if devices()[name].machine in ("", cpu.machine())
    and cpu.features() >= set(devices()[name].features)
]


@dataclass(frozen=True)
class Shape:
    """Query heads, key heads, sizes of keys and values, and what else an attention has."""

    heads: int
    groups: int
    depth: int
    depth_v: int
    tree: bool = False
    softcap: float = 0.0


SHAPES = [
    Shape(8, 2, 64, 64),
    Shape(3, 3, 20, 24),
    Shape(8, 1, 40, 72, tree=True),
    Shape(20, 1, 16, 16),
    Shape(4, 2, 32, 32, softcap=3.0),
]


def model(shape: Shape) -> Module:
    """Write keys and values of ``T`` tokens, then attend."""

    def spec(*dims: ExprLike, dtype: DType = f32) -> Spec:
        return Spec(tuple(map(as_expr, dims)), dtype)

    t = symbol("T", 0, 512)
    b, columns, pages = (symbol(n, 1, 512) for n in "BLP")
    g, d, e = shape.groups, shape.depth, shape.depth_v
    inputs = {
        "q": spec(t, shape.heads, d),
        "k": spec(t, g, d),
        "v": spec(t, g, e),
        "slots": spec(t, dtype=i64),
        "table": spec(b, columns, dtype=i32),
        **{n: spec(t, dtype=i32) for n in ("sequence", "first", "end")},
        **({"tree": spec(t, dtype=i64)} if shape.tree else {}),
        "keys": spec(pages, g, d, PAGE),
        "values": spec(pages, g, PAGE, e),
    }
    states = ("keys", "values")
    entry = EntryOp("main", list(inputs.items()), ("y", *states), states)
    a = dict(zip(inputs, entry.body.block.args, strict=True))
    emit = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    keys = emit.op(WriteSlotsOp, a["keys"], a["slots"], a["k"], turned=True)
    values = emit.op(WriteSlotsOp, a["values"], a["slots"], a["v"], turned=False)
    places = [a[n] for n in ("table", "sequence", "first", "end")]
    y = emit.op(
        PagedAttentionOp,
        *(a["q"], keys, values, *places, a.get("tree")),
        scale=d**-0.5,
        softcap=shape.softcap,
    )
    emit.builder.insert(ReturnOp([y, keys, values]))
    return Module(ModuleOp([entry]))


def drawn(
    shape: Shape, before: Sequence[int], new: Sequence[int], window: int = 0
) -> dict[str, Array]:
    """Sequences with ``before`` tokens in the cache that get ``new`` ones each."""
    random = np.random.default_rng([*before, *new, window])
    need = [-(-(a + n) // PAGE) for a, n in zip(before, new, strict=True)]
    pages = random.permutation(sum(need) + 2).astype(np.int32)
    table = np.zeros((len(need), max(need) + 1), np.int32)
    for i, count in enumerate(need):
        table[i, :count] = pages[sum(need[:i]) : sum(need[: i + 1])]
    sequence = np.repeat(np.arange(len(new)), new).astype(np.int32)
    place = np.concatenate([np.arange(a, a + n) for a, n in zip(before, new, strict=True)])
    end = (place + 1).astype(np.int32)
    first = np.maximum(0, end - window).astype(np.int32) if window else np.zeros_like(end)
    slots = table[sequence, place // PAGE].astype(np.int64) * PAGE + place % PAGE
    tokens, g, count = len(place), shape.groups, len(pages)
    floats = {
        "q": (tokens, shape.heads, shape.depth),
        "k": (tokens, g, shape.depth),
        "v": (tokens, g, shape.depth_v),
        "keys": (count, g, shape.depth, PAGE),
        "values": (count, g, PAGE, shape.depth_v),
    }
    made: dict[str, Array] = {
        n: random.standard_normal(dims).astype(np.float32) for n, dims in floats.items()
    }
    made |= {"slots": slots, "table": table, "sequence": sequence, "first": first, "end": end}
    if shape.tree:
        past = np.repeat(before, new)
        ancestors = random.integers(0, 1 << 62, tokens) & ((1 << np.repeat(new, new)) - 1)
        made |= {"end": past.astype(np.int32), "tree": ancestors | (1 << (place - past))}
    return made


def built(module: Module, device: str, folder: Path) -> Program:
    driver.lower(module)
    compiled = target.compile_module(module, driver.targeted(f"cpu:{device}"))
    path = folder / "model.tapeout"
    artifact.write(path, compiled.manifest, compiled.files, "file")
    return tapeout.load(path, threads=2)


def run(program: Program, arrays: dict[str, Array]) -> dict[str, Array]:
    """Outputs, and states after the run."""
    states = {n: arrays[n].copy() for n in ("keys", "values")}
    given = {n: a for n, a in arrays.items() if n not in states}
    return program.run_on(given, states) | states


@pytest.mark.parametrize("device", HERE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_attention_is_the_evaluators(shape: Shape, device: str, tmp_path: Path) -> None:
    module = model(shape)
    cases = [
        drawn(shape, [0], [1]),
        drawn(shape, [63], [2]),
        drawn(shape, [700, 3, 64], [1, 1, 1]),
        drawn(shape, [0, 130], [40, 5]),
        drawn(shape, [600], [3], window=100),
        drawn(shape, [5], [0]),
    ]
    wanted = [evaluate(module, arrays) for arrays in cases]
    program = built(module, device, tmp_path)
    for arrays, want in zip(cases, wanted, strict=True):
        have = run(program, arrays)
        np.testing.assert_allclose(have["y"], want["y"], rtol=1e-5, atol=2e-6)
        for state in ("keys", "values"):
            np.testing.assert_array_equal(have[state], want[state])


def test_a_token_gets_the_same_bits_alone_and_among_others(tmp_path: Path) -> None:
    shape = SHAPES[0]
    program = built(model(shape), HERE[0], tmp_path)
    together = drawn(shape, [0, 500, 63], [90, 70, 3])
    want = run(program, together)
    alone = {n: together[n].copy() for n in ("keys", "values")}
    for t in range(len(together["end"])):
        one = {n: a[t : t + 1] for n, a in together.items() if n not in (*alone, "table")}
        have = program.run_on({**one, "table": together["table"]}, alone)
        np.testing.assert_array_equal(have["y"][0], want["y"][t], err_msg=f"token {t}")


def test_tokens_without_a_tree_get_the_bits_of_a_program_without_trees(tmp_path: Path) -> None:
    plain, trees = Shape(8, 2, 64, 64), Shape(8, 2, 64, 64, tree=True)
    for name in ("plain", "trees"):
        (tmp_path / name).mkdir()
    program = built(model(plain), HERE[0], tmp_path / "plain")
    other = built(model(trees), HERE[0], tmp_path / "trees")
    for arrays in (
        drawn(plain, [700], [1]),
        drawn(plain, [0, 130], [70, 5]),
        drawn(plain, [600], [3], window=100),
    ):
        words = np.zeros_like(arrays["slots"])
        have = run(other, {**arrays, "tree": words})
        np.testing.assert_array_equal(have["y"], run(program, arrays)["y"])


@pytest.mark.parametrize("end", [-70, -3, 0, 40, 64, 150, (1 << 31) - 1])
@pytest.mark.parametrize("first", [-(1 << 31), 0, 50, 70, 140, (1 << 31) - 1])
def test_slots_that_a_tree_names_are_seen_wherever_they_are(
    several: Program, first: int, end: int
) -> None:
    shape = Shape(6, 2, 24, 16, tree=True)
    arrays = drawn(shape, [150], [6])
    arrays["end"][:], arrays["first"][:] = end, first
    # One word is no tree, one has the sign's bit, one names all slots.
    arrays["tree"][:3] = 0, -(1 << 63), -1
    want = evaluate(model(shape), arrays)
    have = run(several, arrays)
    np.testing.assert_allclose(have["y"], want["y"], rtol=1e-5, atol=2e-6)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Attention that takes trees."""
    folder = tmp_path_factory.mktemp("several")
    return built(model(Shape(6, 2, 24, 16, tree=True)), HERE[0], folder)


def test_places_outside_of_the_pool_touch_nothing_else(tmp_path: Path) -> None:
    shape = SHAPES[0]
    module = model(shape)
    arrays = drawn(shape, [0, 5], [3, 2])
    arrays["slots"][0], arrays["slots"][1] = -5, 1 << 40
    arrays["table"][0, 0], arrays["sequence"][3] = 1 << 30, -7
    arrays["end"][4] = 1 << 30
    want = evaluate(module, arrays)
    have = run(built(module, HERE[0], tmp_path), arrays)
    np.testing.assert_allclose(have["y"], want["y"], rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(have["keys"], want["keys"])


def test_a_token_that_sees_nothing_gives_zeros(tmp_path: Path) -> None:
    shape = SHAPES[0]
    arrays = drawn(shape, [10], [2])
    arrays["end"][:] = 0
    have = run(built(model(shape), HERE[0], tmp_path), arrays)
    np.testing.assert_array_equal(have["y"], 0)
