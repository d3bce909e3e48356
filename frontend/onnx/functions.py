"""Model-local functions: bounded before they are expanded, then replaced by their bodies.

Ten functions that each call the next one twice make a thousand nodes, so the size and nesting
after expansion are computed first, callees before callers, and capped. Expansion itself also
runs callees first: no recursion follows the depth of calls.
"""

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tapeout.frontend.onnx.expand import FreshNames, expand_call, map_graphs
from tapeout.frontend.onnx.findings import Findings, quoted
from tapeout.frontend.onnx.limits import Limits
from tapeout.frontend.onnx.view import (
    AttributeRef,
    CheckedModel,
    Function,
    FunctionKey,
    Node,
    walk,
)

_EXPORT_AGAIN = "export the model again"
_MAIN: FunctionKey = ("", "", "")
_NOT_HANDED_ON = ("GRAPH", "GRAPHS", "UNDEFINED")
_MANY = 10**12
"""Sizes are counted up to here: a bomb's true size has thousands of digits."""


def check_calls(model: CheckedModel, limits: Limits, findings: Findings) -> None:
    """Refuse recursion (E0309), wrong calls (E0309), and expansions over the caps (E0304)."""
    for node in all_nodes(model):
        if node.key in model.functions:
            _check_call(node, model.functions[node.key], findings)
    _check_references(model, findings)
    try:
        order = callees_first(model.functions)
    except graphlib.CycleError as error:
        keys: list[FunctionKey] = error.args[1]
        names = " -> ".join(model.functions[key].label for key in keys[:10])
        findings.add("E0309", "functions call themselves", ("cycle", names), fix=_EXPORT_AGAIN)
        return
    _check_expanded(model, order, limits, findings)


def callees_first(functions: Mapping[FunctionKey, Function]) -> list[FunctionKey]:
    """Return the functions so that each comes after those it calls (``CycleError`` if none)."""
    edges = {
        key: {node.key for node in walk(function.nodes) if node.key in functions}
        for key, function in functions.items()
    }
    return list(graphlib.TopologicalSorter(edges).static_order())


def inline_functions(model: CheckedModel) -> CheckedModel:
    """Return the model with every call replaced by the function's body, and no functions left.

    Values inside a body get fresh names; a node from a body keeps the place of the call and
    carries the operator version that its function asks for.
    """
    if not model.functions:
        return model
    names = FreshNames.beside(model.graph)
    flat: dict[FunctionKey, Function] = {}
    for key in callees_first(model.functions):
        function = model.functions[key]
        flat[key] = replace(function, nodes=_inlined(function.nodes, flat, names))
    graph = replace(model.graph, nodes=_inlined(model.graph.nodes, flat, names))
    return replace(model, graph=graph, functions={})


def all_nodes(model: CheckedModel) -> Iterator[Node]:
    """Yield every node of the model, those of functions included."""
    yield from walk(model.graph.nodes)
    for function in model.functions.values():
        yield from walk(function.nodes)


def _inlined(
    nodes: Sequence[Node], functions: Mapping[FunctionKey, Function], names: FreshNames
) -> tuple[Node, ...]:
    found: list[Node] = []
    for node in nodes:
        inner = map_graphs(
            node, lambda graph: replace(graph, nodes=_inlined(graph.nodes, functions, names))
        )
        callee = functions.get(node.key)
        found += expand_call(inner, callee, names) if callee else [inner]
    return tuple(found)


def _check_call(node: Node, function: Function, findings: Findings) -> None:
    known = {*function.required, *function.defaults}
    missing = sorted(set(function.required) - set(node.attrs))
    unknown = sorted(set(node.attrs) - known)
    excess = len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs)
    if unknown or excess:
        findings.add(
            "E0309",
            f"{node.label} does not call {function.label} as it is defined",
            ("inputs", f"{len(node.inputs)} of {len(function.inputs)}"),
            ("outputs", f"{len(node.outputs)} of {len(function.outputs)}"),
            ("unknown attributes", ", ".join(quoted(name) for name in unknown[:10])),
            ("attributes not given", ", ".join(quoted(name) for name in missing[:10])),
            fix=_EXPORT_AGAIN,
        )


def _check_references(model: CheckedModel, findings: Findings) -> None:
    """Refuse (E0310) a reference outside a function, to no attribute, or to a graph.

    A graph handed on from function to function could double at each step without any one of them
    being large; no exporter writes that.
    """
    _check_node_references(walk(model.graph.nodes), (), "the graph", findings)
    for function in model.functions.values():
        known = (*function.required, *function.defaults)
        _check_node_references(walk(function.nodes), known, function.label, findings)


def _check_node_references(
    nodes: Iterable[Node], known: Sequence[str], owner: str, findings: Findings
) -> None:
    for node in nodes:
        for key, value in node.attrs.items():
            if not isinstance(value, AttributeRef):
                continue
            if value.name not in known or value.kind in _NOT_HANDED_ON:
                findings.add(
                    "E0310",
                    f"attribute {quoted(key)} of {node.label} refers to what {owner} cannot give",
                    ("refers to", quoted(value.name)),
                    ("type", value.kind),
                    ("given", ", ".join(quoted(name) for name in known[:10])),
                    fix=_EXPORT_AGAIN,
                )


@dataclass(frozen=True)
class _Size:
    """What a list of nodes grows to: nodes, names in them, and graphs inside each other."""

    nodes: int
    names: int
    nesting: int


def _check_expanded(
    model: CheckedModel, order: Sequence[FunctionKey], limits: Limits, findings: Findings
) -> None:
    sizes: dict[FunctionKey, _Size] = {}
    for key in order:
        sizes[key] = _expanded(model.functions[key].nodes, sizes)
    sizes[_MAIN] = _expanded(model.graph.nodes, sizes)
    nodes = max(size.nodes for size in sizes.values())
    names = max(size.names for size in sizes.values())
    # The main graph is one level itself.
    nesting = 1 + max(size.nesting for size in sizes.values())
    if nodes > limits.nodes or names > limits.fields or nesting > limits.nesting:
        findings.add(
            "E0304",
            "the model is too large once its functions are expanded",
            ("nodes", f"{nodes} (allowed {limits.nodes})"),
            ("names", f"{names} (allowed {limits.fields})"),
            ("nesting", f"{nesting} (allowed {limits.nesting})"),
            fix="raise the cap in load_model(limits=Limits(...)) if you trust the file",
        )


def _expanded(nodes: Iterable[Node], sizes: Mapping[FunctionKey, _Size]) -> _Size:
    parts = [_expanded_node(node, sizes) for node in nodes]
    return _Size(
        min(_MANY, sum(part.nodes for part in parts)),
        min(_MANY, sum(part.names for part in parts)),
        max((part.nesting for part in parts), default=0),
    )


def _expanded_node(node: Node, sizes: Mapping[FunctionKey, _Size]) -> _Size:
    graphs = tuple(node.subgraphs())
    inner = [_expanded(graph.nodes, sizes) for graph in graphs]
    body = sizes.get(node.key, _Size(1, 0, 0))
    names = len(node.inputs) + len(node.outputs) + len(node.attrs)
    names += sum(len(g.inputs) + len(g.outputs) + len(g.initializers) for g in graphs)
    return _Size(
        body.nodes + sum(size.nodes for size in inner),
        body.names + names + sum(size.names for size in inner),
        max([body.nesting, *(size.nesting + 1 for size in inner)]),
    )
