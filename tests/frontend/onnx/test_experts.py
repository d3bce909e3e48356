"""A mixture of experts as ONNX can write one: gathered matrices, and a batch of products."""

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest

import tapeout


@pytest.mark.parametrize("matrices_first", [False, True])
def test_gathered_matrices_become_a_product_by_experts(
    tmp_path: Path, matrices_first: bool
) -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal((6, 20, 12) if matrices_first else (6, 12, 20)).astype(np.float32)
    axis = -1 if matrices_first else -2
    product = ["own", "rows"] if matrices_first else ["rows", "own"]
    nodes = [
        oh.make_node("Gather", ["w", "e"], ["own"], axis=0),
        oh.make_node("Unsqueeze", ["x", "axis"], ["rows"]),
        oh.make_node("MatMul", product, ["found"]),
        oh.make_node("Squeeze", ["found", "axis"], ["y"]),
    ]
    graph = oh.make_graph(
        nodes,
        "g",
        [
            oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["T", 12]),
            oh.make_tensor_value_info("e", onnx.TensorProto.INT64, ["T"]),
        ],
        [oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["T", 20])],
        [nh.from_array(w, "w"), nh.from_array(np.array([axis]), "axis")],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)
    program = tapeout.load(tapeout.compile(model, output=tmp_path / "m.tapeout"))
    assert [k.name for k in program.manifest.kernels] == ["k0_expert_matmul"]
    matrices = w.swapaxes(1, 2) if matrices_first else w
    for tokens in (1, 17, 200):
        x = random.standard_normal((tokens, 12)).astype(np.float32)
        e = random.integers(0, 6, tokens)
        (y,) = program.run({"x": x, "e": e}).values()
        want = np.einsum("tk,tkn->tn", x, matrices[e])
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
