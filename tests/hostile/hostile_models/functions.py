"""Model-local functions that never end, grow without bound, or do not fit their calls."""

from pathlib import Path
from typing import Any

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from .base import AT_LOAD, hostile, model, save

_DOMAIN = "local"


def _call(name: str, read: str, write: str, **attributes: Any) -> NodeProto:
    return helper.make_node(name, [read], [write], domain=_DOMAIN, **attributes)


def _function(name: str, nodes: list[NodeProto], attributes: list[str] | None = None):
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(_DOMAIN, 1)]
    return FunctionProto(
        name=name,
        domain=_DOMAIN,
        input=["a"],
        output=["b"],
        attribute=attributes or [],
        node=nodes,
        opset_import=imports,
    )


def _model(call: NodeProto, functions: list[FunctionProto]) -> ModelProto:
    proto = model([call])
    proto.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    proto.functions.extend(functions)
    return proto


@hostile(AT_LOAD, "E0309", says=["call themselves", "local.f"])
def function_that_calls_itself(folder: Path) -> Path:
    return save(folder, _model(_call("f", "x", "y"), [_function("f", [_call("f", "a", "b")])]))


@hostile(AT_LOAD, "E0309", says=["call themselves", "local.g"])
def functions_that_call_each_other(folder: Path) -> Path:
    f, g = (_function(n, [_call(m, "a", "b")]) for n, m in (("f", "g"), ("g", "f")))
    return save(folder, _model(_call("f", "x", "y"), [f, g]))


@hostile(AT_LOAD, "E0304", says=["expanded"])
def functions_that_double_forty_times(folder: Path) -> Path:
    """Eighty calls in the file; a trillion nodes once expanded."""
    functions = [_function("f0", [helper.make_node("Relu", ["a"], ["b"])])]
    for level in range(1, 41):
        twice = [_call(f"f{level - 1}", "a", "m"), _call(f"f{level - 1}", "m", "b")]
        functions.append(_function(f"f{level}", twice))
    return save(folder, _model(_call("f40", "x", "y"), functions))


@hostile(AT_LOAD, "E0304", says=["nesting"])
def functions_that_nest_a_hundred_graphs(folder: Path) -> Path:
    """No graph in the file is inside another's body; expanded, a hundred are."""
    functions = [_function("f0", [helper.make_node("Relu", ["a"], ["b"])])]
    for level in range(1, 101):
        branch = helper.make_graph([_call(f"f{level - 1}", "a", "c")], "b", [], [])
        choose = helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
        functions.append(_function(f"f{level}", [choose]))
    return save(folder, _model(_call("f100", "x", "y"), functions))


@hostile(AT_LOAD, "E0304", says=["names"])
def function_of_many_names_called_many_times(folder: Path) -> Path:
    wide = helper.make_node("Sum", ["a"] * 10_000, ["b"])
    calls = [_call("f", "x", f"y{i}") for i in range(2000)]
    proto = _model(calls[0], [_function("f", [wide])])
    proto.graph.node.extend(calls[1:])
    proto.graph.output[0].name = "y0"
    return save(folder, proto)


@hostile(AT_LOAD, "E0309", says=["defined twice"])
def function_defined_twice(folder: Path) -> Path:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    return save(folder, _model(_call("f", "x", "y"), [_function("f", body)] * 2))


@hostile(AT_LOAD, "E0309", says=["'surprise'"])
def call_with_an_attribute_that_the_function_lacks(folder: Path) -> Path:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    return save(folder, _model(_call("f", "x", "y", surprise=1), [_function("f", body)]))


@hostile(AT_LOAD, "E0309", says=["2 of 1"])
def call_with_more_inputs_than_the_function_has(folder: Path) -> Path:
    call = helper.make_node("f", ["x", "x"], ["y"], domain=_DOMAIN)
    return save(folder, _model(call, [_function("f", [helper.make_node("Relu", ["a"], ["b"])])]))


@hostile(AT_LOAD, "E0310", says=["GRAPH"])
def graph_handed_on_by_reference(folder: Path) -> Path:
    """Each function could use the graph twice and so double it."""
    node = helper.make_node("If", ["a"], ["b"])
    for name in ("then_branch", "else_branch"):
        kind = AttributeProto.GRAPH
        node.attribute.append(AttributeProto(name=name, ref_attr_name="body", type=kind))
    branch = helper.make_graph([], "b", [], [])
    call = _call("f", "x", "y", body=branch)
    return save(folder, _model(call, [_function("f", [node], ["body"])]))


@hostile(AT_LOAD, "E0305", says=["'ghost'", "local.f"])
def function_body_that_reads_what_nothing_defines(folder: Path) -> Path:
    body = [helper.make_node("Add", ["a", "ghost"], ["b"])]
    return save(folder, _model(_call("f", "x", "y"), [_function("f", body)]))
