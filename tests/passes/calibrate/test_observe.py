"""Watching a module: the values are the evaluator's, and are dropped when nothing reads them."""

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from tapeout.ir.dtypes import boolean, f32, i64
from tapeout.ir.expr import symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import EntryOp, LoopOp, ReturnOp
from tapeout.ir.types import Spec, TensorType
from tapeout.passes.calibrate.observe import Watch, observe
from tapeout.passes.manager import run
from tapeout.passes.pipeline import KERNELS

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]


def samples(count: int = 4, width: int = 8) -> list[Sample]:
    random = np.random.default_rng(2)
    return [{"x": random.standard_normal((n + 1, width)).astype(np.float32)} for n in range(count)]


def layer(graph: Any) -> tuple[Module, SSAValue, SSAValue, Array]:
    """``y = relu(x @ w)``: the module, the product, its relu, the weight."""
    g = graph(x="f32 S, 8")
    w = g.fixed(np.random.default_rng(1).standard_normal((8, 6)))
    product = g.matmul(g["x"], w)
    y = g.map("relu", product)
    module = g.returning(y)
    weight = module.value_of(w)
    assert weight is not None
    return module, product, y, weight


def test_statistics_are_those_of_the_values_of_all_samples(graph: Any) -> None:
    module, product, y, w = layer(graph)
    x = np.concatenate([s["x"] for s in samples()])
    seen = observe(module, samples())
    main = next(module.entries())
    # The entry's input, the product and the relu; no weights.
    assert list(seen) == [main.body.block.args[0], product, y]
    assert seen[main.body.block.args[0]].absmax == np.abs(x).max()
    np.testing.assert_allclose(seen[product].low, (x @ w).min(), rtol=1e-6)
    channels = seen[product].channels
    assert channels is not None
    np.testing.assert_allclose(channels.absmax, np.abs(x @ w).max(axis=0), rtol=1e-6)
    assert seen[y].histogram.zeros == np.sum(x @ w <= 0)


def test_chosen_values_alone_are_watched(graph: Any) -> None:
    module, product, y, _ = layer(graph)
    x = next(module.entries()).body.block.args[0]
    seen = observe(module, samples(), [product], grams=[x], sampled=[y], rows=3)
    assert set(seen) == {product, x, y}
    rows = np.concatenate([s["x"] for s in samples()])
    gram, kept = seen[x].gram, seen[y].rows
    assert gram is not None
    assert kept is not None
    np.testing.assert_allclose(gram.total, rows.T @ rows, rtol=1e-5)
    assert kept.kept.shape == (3, 6)
    assert seen[product].gram is None


def test_samples_are_drawn_one_at_a_time(graph: Any) -> None:
    module, product, _, _ = layer(graph)
    alive: list[weakref.ref[Array]] = []

    def stream() -> Iterator[Sample]:
        for sample in samples(6):
            assert sum(ref() is not None for ref in alive) <= 1
            array = sample["x"].copy()
            alive.append(weakref.ref(array))
            yield {"x": array}

    assert observe(module, stream())[product].histogram.total == 6 * 21


def test_a_value_is_dropped_after_its_last_reader(graph: Any) -> None:
    g = graph(x="f32 S, 8")
    value = g["x"]
    for _ in range(20):
        value = g.map("tanh", value)
    y = g.map("add", value, g["x"])
    module = g.returning(y)
    held: list[int] = []

    class Counting(Watch):
        def run(self, op: Operation) -> Any:
            held.append(len(self.values))
            return super().run(op)

    Counting(module, next(module.entries()), {}).sample(samples()[0])
    # x, which the last operator reads, and the operand of the next operator.
    assert max(held) == 2


def test_the_inside_of_a_loop_is_watched_in_every_turn() -> None:
    """``repeat 3 times: x = x + x``, with an addend from outside that the loop reads last."""
    s = symbol("S", 1, 8)
    vector, count = Spec((s,), f32), symbol("turns", 0)
    inputs = [("n", Spec((), i64)), ("go", Spec((), boolean)), ("x", vector), ("z", vector)]
    entry = EntryOp("main", inputs, ["y"])
    n, go, x, z = entry.body.block.args
    body = Block(arg_types=[TensorType(t) for t in (Spec((), i64), Spec((), boolean), vector)])
    doubled = MapOp.make((body.args[2], body.args[2]), fn="add")
    moved = MapOp.make((doubled.y, z), fn="add")
    body.add_ops([doubled, moved, ReturnOp([body.args[1], moved.y])])
    loop = LoopOp(n, go, [x], Region(body), [TensorType(vector)], count, 0)
    entry.body.block.add_ops([loop, ReturnOp(list(loop.ys))])
    module = Module(ModuleOp([entry]))
    sample = {
        "n": np.array(3),
        "go": np.array(True),
        "x": np.ones(2, np.float32),
        "z": np.zeros(2, np.float32),
    }
    seen = observe(module, [sample])
    assert (seen[doubled.y].low, seen[doubled.y].high) == (2, 8)
    assert (seen[body.args[2]].low, seen[body.args[2]].high) == (1, 4)
    assert seen[loop.ys[0]].low == 8


def test_kernels_are_refused_since_their_inside_is_hidden(graph: Any) -> None:
    module, *_ = layer(graph)
    run(module, KERNELS)
    with pytest.raises(AssertionError, match="before"):
        observe(module, samples())
