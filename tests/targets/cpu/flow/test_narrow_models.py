"""Models that come in 16-bit floats: the kernels of quantised ones, with weights as they are."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import tapeout
from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.evaluator import evaluate

Array = np.ndarray[Any, Any]

TYPES = {
    "FLOAT16": (np.float16, 2.0**-10),
    "BFLOAT16": (ml_dtypes.bfloat16, 2.0**-7),
}
"""Numpy's type, and the distance of neighbours, relative."""


def model(kind: str, rows: int) -> tuple[onnx.ModelProto, list[Array]]:
    """Two products with a bias and an activation between, all of one type."""
    random, (dtype, _) = np.random.default_rng(4), TYPES[kind]
    shapes = {"v": (96, 70), "b": (70,), "w": (70, 33)}
    weights = {n: (random.standard_normal(s) / 4).astype(dtype) for n, s in shapes.items()}
    code = getattr(onnx.TensorProto, kind)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "v"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["q"]),
            helper.make_node("Relu", ["q"], ["r"]),
            helper.make_node("MatMul", ["r", "w"], ["y"]),
        ],
        "narrow",
        [helper.make_tensor_value_info("x", code, [rows, 96])],
        [helper.make_tensor_value_info("y", code, [rows, 33])],
        [helper.make_tensor(n, code, a.shape, a.tobytes(), raw=True) for n, a in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return made, list(weights.values())


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("kind", TYPES)
def test_products_round_once_and_keep_their_weights(tmp_path: Path, kind: str, rows: int) -> None:
    proto, weights = model(kind, rows)
    dtype, unit = TYPES[kind]
    path = tapeout.compile(proto, output=tmp_path / "m", format="dir")
    x = np.random.default_rng(2).standard_normal((rows, 96)).astype(dtype)
    want = evaluate(import_model(load_model(proto)), {"x": x})["y"].astype(np.float32)
    have = tapeout.load(path).run({"x": x})["y"]
    assert have.dtype == dtype
    # Of the order of sums, which differs, a value between the two products may round elsewhere.
    off = np.abs(have.astype(np.float32) - want)
    assert off.max() <= unit * np.abs(want).max()
    names = [k["name"] for k in json.loads((path / "manifest.json").read_text())["kernels"]]
    assert len(names) == 2
    # Panels end in zeros: more than the weights by less than a panel of 64 columns each.
    stored = (path / "weights.bin").stat().st_size
    assert stored < sum(w.nbytes for w in weights) + 2 * 64 * (96 + 70) + 3 * 64
