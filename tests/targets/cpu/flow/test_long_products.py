"""Products whose rows are cut along k: right, and the same bits for a row in any company."""

# onnx is only partly annotated.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tapeout
from tapeout.runtime import cpu
from tapeout.targets.cpu.device import devices

Array = np.ndarray[Any, Any]
HERE = [
    name
    for name in ("avx512", "avx2", "generic")
    if devices()[name].machine in ("", cpu.machine())
    and cpu.features() >= set(devices()[name].features)
]


def model(
    rows: int | str, inner: int, columns: int
) -> tuple[onnx.ModelProto, Callable[[Array], Array]]:
    """``relu(x @ w + b)`` with what it computes for rows ``x``."""
    random = np.random.default_rng(0)
    w = random.standard_normal((inner, columns), dtype=np.float32) / 32
    b = random.standard_normal(columns, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    shapes = {"x": [rows, inner], "y": [rows, columns]}
    ports = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes.items()]
    weights = [numpy_helper.from_array(a, n) for n, a in (("w", w), ("b", b))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def right(x: Array) -> Array:
        return np.maximum(x.astype(np.float64) @ w + b, 0)

    return made, right


@pytest.mark.parametrize("device", HERE)
@pytest.mark.parametrize(("inner", "columns"), [(1024, 40), (2050, 530)])
def test_any_number_of_rows(device: str, inner: int, columns: int, tmp_path: Path) -> None:
    made, right = model("T", inner, columns)
    target = f"cpu:{device}"
    path = tapeout.compile(made, target, output=tmp_path / "m.tapeout", dims={"T": (1, 512)})
    x = np.random.default_rng(1).standard_normal((301, inner), dtype=np.float32)
    with tapeout.load(path, threads=2) as program:
        whole = program.run({"x": x})["y"]
        np.testing.assert_allclose(whole, right(x), rtol=1e-4, atol=1e-4)
        for rows in (1, 5, 13, 14, 15, 112, 113, 225):
            np.testing.assert_array_equal(program.run({"x": x[:rows]})["y"], whole[:rows])


@pytest.mark.parametrize("device", HERE)
def test_a_known_number_of_rows(device: str, tmp_path: Path) -> None:
    made, right = model(401, 1536, 70)
    path = tapeout.compile(made, f"cpu:{device}", output=tmp_path / "m.tapeout")
    x = np.random.default_rng(1).standard_normal((401, 1536), dtype=np.float32)
    with tapeout.load(path, threads=2) as program:
        np.testing.assert_allclose(program.run({"x": x})["y"], right(x), rtol=1e-4, atol=1e-4)
