"""Products of 16-bit floats to the bit, each in the order of operations that its device states."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import InsertPoint

from tapeout.frontend import driver
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DTYPES, DType, f32
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.runtime import artifact
from tapeout.runtime.cpu import features, machine
from tapeout.runtime.program import load
from tapeout.targets.cpu.device import Device, devices
from tapeout.targets.cpu.target import built_on, compile_module

Array = np.ndarray[Any, Any]
Step = Callable[[Array, Array, Array], Array]

ROWS, INNER, COLUMNS = 29, 37, 70


def here(name: str) -> Device:
    """A device as this machine runs it: without AVX512-BF16, dot2.h has its bits."""
    device = built_on(machine(), devices()[name])
    return replace(
        device,
        features=tuple(f for f in device.features if f != "avx512_bf16"),
        flags=tuple(f for f in device.flags if f != "-mavx512bf16" or "avx512_bf16" in features()),
    )


RUNNABLE = [
    n
    for n, d in devices().items()
    if d.machine in ("", machine()) and features() >= {*here(n).features}
]


def built(dtype: DType, weight: Array, kind: str) -> Module:
    """``x @ w``, or a 1x1 convolution of one row of pixels, summed in f32."""
    pixels = (1, INNER, 1, ROWS)
    shape = tuple(map(as_expr, (ROWS, INNER) if kind == "matmul" else pixels))
    entry = EntryOp("main", [("x", Spec(shape, dtype))], ["y"])
    module = Module(ModuleOp([entry]))
    g = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    x = entry.body.block.args[0]
    if kind == "matmul":
        w = g.builder.insert(module.weight(weight)).results[0]
        y = g.op(MatmulOp, x, w, to=f32)
    else:
        w = g.builder.insert(module.weight(weight.T.reshape(COLUMNS, INNER, 1, 1))).results[0]
        window = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}
        y = g.op(ConvOp, x, w, None, **window, to=f32)
    g.builder.insert(ReturnOp([y]))
    return module


def in_order(x: Array, w: Array, step: Step, depth: int) -> Array:
    """The sum over ``k``, ``depth`` products to a step."""
    short = -INNER % depth
    x, w = np.pad(x, ((0, 0), (0, short))), np.pad(w, ((0, short), (0, 0)))
    total = np.zeros((ROWS, COLUMNS), np.float32)
    for k in range(0, INNER, depth):
        a = np.broadcast_to(x.T[k : k + depth, :, None], (depth, ROWS, COLUMNS))
        b = np.broadcast_to(w[k : k + depth, None, :], (depth, ROWS, COLUMNS))
        total = step(a, b, total)
    return total


@pytest.mark.parametrize("kind", ["matmul", "conv"])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_products_are_summed_as_stated(
    tmp_path: Path, orders: SimpleNamespace, name: str, dtype: str, kind: str
) -> None:
    t, random = DTYPES[dtype], np.random.default_rng(8)
    x = random.standard_normal((ROWS, INNER)).astype(t.numpy)
    w = random.standard_normal((INNER, COLUMNS)).astype(t.numpy)
    module = built(t, w, kind)
    driver.lower(module)
    made = compile_module(module, [here(name)])
    artifact.write(tmp_path / "m.tapeout", made.manifest, made.files)
    given = x if kind == "matmul" else x.T.reshape(1, INNER, 1, ROWS)
    have = load(tmp_path / "m.tapeout").run({"x": np.ascontiguousarray(given)})["y"]
    have = have if kind == "matmul" else have.reshape(COLUMNS, ROWS).T
    pairs = dtype in devices()[name].pairs

    def one(a: Array, b: Array, c: Array) -> Array:
        return orders.fma(a[0], b[0], c)

    step, depth = (orders.x86_pair, 2) if pairs else (one, 1)
    want = in_order(x.astype(np.float32), w.astype(np.float32), step, depth)
    np.testing.assert_array_equal(have, want)
