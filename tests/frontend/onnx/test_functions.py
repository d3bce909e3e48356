"""Calls and ONNX's own bodies mean the same once they are expanded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tapeout.frontend.onnx.expand import FreshNames
from tapeout.frontend.onnx.functions import inline_functions
from tapeout.frontend.onnx.load import load_model
from tapeout.frontend.onnx.schema_bodies import function_body, has_body
from tapeout.frontend.onnx.to_proto import node_proto
from tapeout.frontend.onnx.view import CheckedModel, Graph, Node, TensorType
from tapeout.ir.errors import CompileError

_IMPORTS = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
_node = helper.make_node


def _value(name: str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])


def _function(
    name: str, inputs: list[str], outputs: list[str], nodes: list[NodeProto], attributes: list[str]
) -> FunctionProto:
    return helper.make_function("local", name, inputs, outputs, nodes, _IMPORTS, attributes)


def _model(nodes: list[NodeProto], functions: list[FunctionProto]) -> ModelProto:
    graph = helper.make_graph(nodes, "g", [_value("x"), _value("m")], [_value("y")])
    return helper.make_model(graph, opset_imports=_IMPORTS, functions=functions, ir_version=10)


def _run(nodes: Sequence[Node], model: ModelProto, feeds: dict[str, Any]) -> Any:
    """Evaluate view nodes with ONNX's reference evaluator in the graph of ``model``."""
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.node[:]
    graph.node.extend(node_proto(node) for node in nodes)
    version = max([node.version for node in nodes if node.domain == ""])
    flat = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    evaluator: Any = ReferenceEvaluator(flat)
    return evaluator.run(None, feeds)


def _leaky() -> NodeProto:
    node = _node("LeakyRelu", ["a"], ["m"])
    node.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type="FLOAT"))
    return node


_FEEDS = {"x": np.array([-3.0, 0.5, 2.0], np.float32), "m": np.array([1.0, 2.0, 3.0], np.float32)}


def _flat(model: ModelProto) -> CheckedModel:
    flat = inline_functions(load_model(model))
    assert flat.functions == {}
    assert all(node.domain != "local" for node in flat.graph.nodes)
    return flat


def test_inlined_calls_compute_the_same() -> None:
    """The body's ``m`` must not catch the model's ``m``, in either of two calls."""
    inner = _function("inner", ["a"], ["m"], [_leaky()], ["slope"])
    call = _node("inner", ["p"], ["m"], domain="local")
    call.attribute.append(onnx.AttributeProto(name="slope", ref_attr_name="k", type="FLOAT"))
    body = [call, _node("Add", ["m", "q"], ["r"])]
    outer = _function("outer", ["p", "q"], ["r"], body, ["k"])
    nodes = [
        _node("outer", ["x", "m"], ["u"], domain="local", k=0.5),
        _node("outer", ["u", "m"], ["y"], domain="local", k=0.25),
    ]
    model = _model(nodes, [outer, inner])
    [found] = _run(_flat(model).graph.nodes, model, _FEEDS)
    x, m = _FEEDS["x"], _FEEDS["m"]
    u = np.where(x < 0, 0.5 * x, x) + m
    assert np.allclose(found, np.where(u < 0, 0.25 * u, u) + m)


def test_a_body_with_a_branch_keeps_its_scopes() -> None:
    """The branch has a local of the name that the call passes in: they stay apart."""
    branch = helper.make_graph(
        [_node("Relu", ["a"], ["m"]), _node("Add", ["m", "a"], ["o"])], "b", [], [_value("o")]
    )
    nodes = [
        _node("ReduceSum", ["a"], ["s"], keepdims=0),
        _node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        _node("If", ["c"], ["r"], then_branch=branch, else_branch=branch),
    ]
    function = _function("f", ["a"], ["r"], nodes, [])
    model = _model([_node("f", ["m"], ["y"], domain="local")], [function])
    flat = _flat(model)
    [found] = _run(flat.graph.nodes, model, _FEEDS)
    assert np.array_equal(found, 2 * _FEEDS["m"])
    inner = flat.graph.nodes[-1].attrs["then_branch"]
    assert isinstance(inner, Graph)
    assert inner.captures == ("m",)


def test_an_output_that_is_an_input_is_handed_through() -> None:
    function = _function("f", ["a", "b"], ["b", "a"], [], [])
    model = _model([_node("f", ["x", "m"], ["y", "other"], domain="local")], [function])
    [found] = _run(_flat(model).graph.nodes, model, _FEEDS)
    assert np.array_equal(found, _FEEDS["m"])


def test_absent_inputs_and_attributes_are_absent_in_the_body() -> None:
    body = [_leaky(), _node("Clip", ["m", "low"], ["r"])]
    function = _function("f", ["a", "low"], ["r"], body, ["slope"])
    flat = _flat(_model([_node("f", ["x"], ["y"], domain="local")], [function]))
    leaky, clip = flat.graph.nodes
    assert dict(leaky.attrs) == {}
    assert clip.inputs == (leaky.outputs[0], "")


def test_nodes_of_a_body_carry_its_versions_and_the_calls_place() -> None:
    function = _function("f", ["a"], ["b"], [_node("Relu", ["a"], ["b"], name="inside")], [])
    function.opset_import[0].version = 14
    nodes = [_node("Abs", ["x"], ["t"]), _node("f", ["t"], ["y"], domain="local", name="call")]
    absolute, relu = _flat(_model(nodes, [function])).graph.nodes
    assert (absolute.version, relu.version) == (18, 14)
    assert (relu.name, relu.index) == ("call/inside", 1)


def test_an_attribute_of_another_type_than_its_use_is_refused() -> None:
    function = _function("f", ["a"], ["m"], [_leaky()], ["slope"])
    model = load_model(_model([_node("f", ["x"], ["y"], domain="local", slope="no")], [function]))
    with pytest.raises(CompileError) as refusal:
        inline_functions(model)
    assert refusal.value.code == "E0310"


_BODIES: list[tuple[str, int, dict[str, Any]]] = [
    ("LeakyRelu", 16, {"alpha": 0.3}),
    ("LeakyRelu", 16, {}),
    ("Selu", 22, {}),
    ("HardSigmoid", 6, {"beta": 0.2}),
    ("Softmax", 13, {"axis": -1}),
    ("LogSoftmax", 13, {}),
    ("Gelu", 20, {"approximate": "tanh"}),
    ("Mish", 22, {}),
    ("Softplus", 1, {}),
    ("ReduceLogSumExp", 18, {"keepdims": 0}),
]


@pytest.mark.parametrize(("op_type", "version", "attrs"), _BODIES)
def test_bodies_of_onnx_compute_what_the_operator_does(
    op_type: str, version: int, attrs: dict[str, Any]
) -> None:
    node = Node(op_type, "", version, "n", ("x",), ("y",), attrs)
    kind = TensorType(np.dtype(np.float32), (3,))
    assert has_body(node)
    names = FreshNames({"x", "m", "y"})
    body = function_body(node, [kind], names)
    while any(has_body(each) for each in body):
        body = [part for each in body for part in (_expanded(each, kind, names) or [each])]
    model = _model([], [])
    [found] = _run(body, model, _FEEDS)
    [wanted] = _run([node], model, _FEEDS)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def _expanded(node: Node, kind: TensorType, names: FreshNames) -> list[Node]:
    return function_body(node, [kind] * len(node.inputs), names)


def test_operators_without_a_body_have_none() -> None:
    node = Node("Conv", "", 22, "n", ("x", "w"), ("y",))
    unknown = Node("Frobnicate", "com.example", 1, "n", ("x",), ("y",))
    assert not has_body(node)
    assert function_body(node, [None, None], FreshNames()) == []
    assert function_body(unknown, [None], FreshNames()) == []


def test_a_body_that_onnx_cannot_make_is_a_coded_refusal() -> None:
    huge = TensorType(np.dtype(np.float32), (1, 2**40, 2, 2))
    node = Node("DepthToSpace", "", 28, "n", ("x",), ("y",), {"blocksize": 2**62})
    with pytest.raises(CompileError) as refusal:
        function_body(node, [huge], FreshNames())
    assert refusal.value.code == "E0402"
