"""Graphs whose names, order, types or attributes do not hold together."""

from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, helper

from .base import AT_LOAD, constant, hostile, model, save, value

_node = helper.make_node


@hostile(AT_LOAD, "E0305", says=["cycle", "'first'", "'second'"])
def cycle_of_two_nodes(folder: Path) -> Path:
    nodes = [
        _node("Add", ["x", "b"], ["a"], name="first"),
        _node("Relu", ["a"], ["b"], name="second"),
    ]
    return save(folder, model(nodes, outputs=[value("b")]))


@hostile(AT_LOAD, "E0305", says=["cycle"])
def node_that_reads_itself(folder: Path) -> Path:
    return save(folder, model([_node("Relu", ["y"], ["y"])]))


@hostile(AT_LOAD, "E0305", says=["cycle", "steps"])
def cycle_of_fifty_thousand_nodes(folder: Path) -> Path:
    count = 50_000
    nodes = [_node("Relu", [f"v{(i + 1) % count}"], [f"v{i}"]) for i in range(count)]
    return save(folder, model(nodes, outputs=[value("v0")]))


@hostile(AT_LOAD, "E0305", says=["cycle"])
def cycle_through_a_subgraph(folder: Path) -> Path:
    branch = GraphProto(name="b", node=[_node("Relu", ["y"], ["z"])], output=[value("z")])
    choose = _node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    inputs = [value("c", (), onnx.TensorProto.BOOL)]
    return save(folder, model([choose], inputs=inputs))


@hostile(AT_LOAD, "E0305", says=["before it is defined", "'early'"])
def nodes_out_of_order(folder: Path) -> Path:
    nodes = [_node("Relu", ["a"], ["y"], name="early"), _node("Relu", ["x"], ["a"])]
    return save(folder, model(nodes))


@hostile(AT_LOAD, "E0305", says=["'ghost'", "nothing defines"])
def input_that_nothing_defines(folder: Path) -> Path:
    return save(folder, model([_node("Add", ["x", "ghost"], ["y"])]))


@hostile(AT_LOAD, "E0305", says=["'inner_ghost'"])
def undefined_name_in_a_subgraph(folder: Path) -> Path:
    branch = GraphProto(name="b", node=[_node("Relu", ["inner_ghost"], ["z"])], output=[value("z")])
    choose = _node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return save(folder, model([choose], inputs=[value("c", (), onnx.TensorProto.BOOL)]))


@hostile(AT_LOAD, "E0305", says=["'y'", "nothing defines"])
def output_that_nothing_defines(folder: Path) -> Path:
    return save(folder, model([_node("Relu", ["x"], ["z"])]))


@hostile(AT_LOAD, "E0305", says=["no outputs"])
def graph_without_outputs(folder: Path) -> Path:
    return save(folder, model(outputs=[]))


@hostile(AT_LOAD, "E0305", says=["'y'", "defined twice"])
def value_defined_by_two_nodes(folder: Path) -> Path:
    return save(folder, model([_node("Relu", ["x"], ["y"]), _node("Abs", ["x"], ["y"])]))


@hostile(AT_LOAD, "E0305", says=["'x'", "defined twice"])
def value_defined_over_an_input(folder: Path) -> Path:
    return save(folder, model([_node("Relu", ["x"], ["x"])], outputs=[value("x")]))


@hostile(AT_LOAD, "E0305", says=["'y'", "named twice", "'x'"])
def duplicate_inputs_and_outputs(folder: Path) -> Path:
    return save(folder, model(inputs=[value("x")] * 2, outputs=[value("y")] * 2))


@hostile(AT_LOAD, "E0305", says=["'w'", "defined twice"])
def duplicate_initializers(folder: Path) -> Path:
    return save(folder, model(constants=[constant("w", [1]), constant("w", [2])]))


@hostile(AT_LOAD, "E0305", says=["no name"])
def nameless_initializer(folder: Path) -> Path:
    return save(folder, model(constants=[constant("", [1])]))


@hostile(AT_LOAD, "E0305", says=["names no operator"])
def node_without_an_operator(folder: Path) -> Path:
    return save(folder, model([_node("", ["x"], ["y"])]))


@hostile(AT_LOAD, "E0306", says=["'x'", "has no type"])
def input_without_a_type(folder: Path) -> Path:
    return save(folder, model(inputs=[onnx.ValueInfoProto(name="x")]))


@hostile(AT_LOAD, "E0306", says=["'x'", "element type", "99"])
def input_of_an_unknown_element_type(folder: Path) -> Path:
    return save(folder, model(inputs=[value("x", (2,), 99)]))


@hostile(AT_LOAD, "E0306", says=["'x'", "-5"])
def input_with_a_negative_dimension(folder: Path) -> Path:
    return save(folder, model(inputs=[value("x", (2, -5))]))


@hostile(AT_LOAD, "E0306", says=["1000"])
def input_of_rank_thousand(folder: Path) -> Path:
    return save(folder, model(inputs=[value("x", (1,) * 1000)]))


@hostile(AT_LOAD, "E0310", says=["'alpha'", "given twice"])
def attribute_given_twice(folder: Path) -> Path:
    node = _node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    node.attribute.append(node.attribute[0])
    return save(folder, model([node]))


@hostile(AT_LOAD, "E0310", says=["'alpha'", "not of its type"])
def attribute_whose_content_is_not_of_its_type(folder: Path) -> Path:
    node = _node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    node.attribute[0].type = AttributeProto.INTS
    return save(folder, model([node]))


@hostile(AT_LOAD, "E0310", says=["no content"])
def graph_attribute_without_a_graph(folder: Path) -> Path:
    node = _node("If", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="then_branch", type=AttributeProto.GRAPH))
    return save(folder, model([node]))


@hostile(AT_LOAD, "E0310", says=["not UTF-8"])
def string_attribute_that_is_not_utf8(folder: Path) -> Path:
    return save(folder, model([_node("Gelu", ["x"], ["y"], approximate=b"\xff\xfe")]))


@hostile(AT_LOAD, "E0310", says=["refers to"])
def attribute_reference_outside_a_function(folder: Path) -> Path:
    node = _node("LeakyRelu", ["x"], ["y"])
    reference = AttributeProto(name="alpha", ref_attr_name="a", type=AttributeProto.FLOAT)
    node.attribute.append(reference)
    return save(folder, model([node]))


@hostile(AT_LOAD, "E0305", says=["'g0'", "480 more"])
def five_hundred_faults_at_once(folder: Path) -> Path:
    return save(folder, model([_node("Sum", [f"g{i}" for i in range(500)], ["y"])]))


@hostile(AT_LOAD, "E0305", says=["'g0'", "'g5'", "'g9'"])
def ten_faults_at_once(folder: Path) -> Path:
    return save(folder, model([_node("Sum", [f"g{i}" for i in range(10)], ["y"])]))
