"""The structure of a model: versions, names, order, and calls of functions.

Every check is linear in the size of the model and none recurses further than graphs nest, which
is capped before. ONNX's own checker is not called: its cost on nested graphs is not bounded.
"""

import graphlib
from collections.abc import Iterable, Mapping, Sequence

import onnx

from tapeout.frontend.onnx.findings import Findings, quoted
from tapeout.frontend.onnx.view import CheckedModel, Function, Graph, Node

OLDEST_IR_VERSION = 3
"""The first with operator sets."""

NEWEST_IR_VERSION = int(onnx.IR_VERSION)

OPSETS: Mapping[str, tuple[int, int]] = {
    "": (1, 28),
    "ai.onnx.ml": (1, 5),
    "ai.onnx.preview": (1, 1),
    "ai.onnx.preview.training": (1, 1),
}
"""The versions of each of ONNX's domains that are read. Other domains pass until they are used."""

_SHOWN_NODES = 10
_SORT = "sort the nodes so that each value is defined before it is read; export the model again"


def check_versions(model: CheckedModel, findings: Findings) -> None:
    """Refuse (E0303) versions of the format or of operator sets that are not known."""
    if not OLDEST_IR_VERSION <= model.ir_version <= NEWEST_IR_VERSION:
        findings.add(
            "E0303",
            "the model has an unknown version of the ONNX format",
            ("ir_version", model.ir_version),
            ("known", f"{OLDEST_IR_VERSION} to {NEWEST_IR_VERSION}"),
            fix="export the model with another version of onnx",
        )
    if not model.opsets:
        findings.add("E0303", "the model imports no operator set", fix="export the model again")
    check_opsets(model.opsets, "the model", findings)
    for function in model.functions.values():
        check_opsets(function.opsets, function.label, findings)


def check_opsets(opsets: Mapping[str, int], owner: str, findings: Findings) -> None:
    """Refuse (E0303) versions of ONNX's own operator sets that are not known."""
    for domain, version in opsets.items():
        low, high = OPSETS.get(domain, (0, 2**31 - 1))
        if not low <= version <= high:
            findings.add(
                "E0303",
                f"{owner} needs an unknown version of an operator set",
                ("domain", quoted(domain or "ai.onnx")),
                ("version", version),
                ("known", f"{low} to {high}"),
                fix="export the model with an opset among the known ones",
            )


def check_main_graph(graph: Graph, findings: Findings) -> None:
    """Refuse (E0305) a main graph whose names do not hold together."""
    if not graph.outputs:
        findings.add("E0305", "the graph has no outputs", fix="export the model again")
    check_graph(graph, (), "the graph", findings)


def check_graph(graph: Graph, outer: Sequence[set[str]], owner: str, findings: Findings) -> None:
    """Refuse (E0305) names defined twice, read before they are defined, or cyclic.

    ``outer`` are the names visible around the graph. A name of an outer graph may be defined anew
    inside, as ONNX's checker allows; within one graph a name is defined once.
    """
    inputs = [info.name for info in graph.inputs]
    _check_repeats(inputs, f"an input of {owner}", findings)
    _check_repeats([info.name for info in graph.outputs], f"an output of {owner}", findings)
    defined = {*inputs, *graph.initializers}
    outputs = [info.name for info in graph.outputs]
    _check_body(graph.nodes, defined, outputs, outer, owner, findings)


def check_function(function: Function, findings: Findings) -> None:
    """Refuse (E0305, E0309) a function body whose names do not hold together."""
    owner = function.label
    _check_repeats(list(function.inputs), f"an input of {owner}", findings)
    _check_repeats(list(function.outputs), f"an output of {owner}", findings)
    attributes = [*function.required, *function.defaults]
    _check_repeats(attributes, f"an attribute of {owner}", findings)
    _check_body(function.nodes, set(function.inputs), list(function.outputs), (), owner, findings)


def _check_repeats(names: Sequence[str], what: str, findings: Findings) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            why = f"{quoted(name)} is named twice as {what}" if name else f"{what} has no name"
            findings.add("E0305", why, fix="give each its own name; export the model again")
        seen.add(name)


def _check_body(
    nodes: Sequence[Node],
    defined: set[str],
    outputs: Sequence[str],
    outer: Sequence[set[str]],
    owner: str,
    findings: Findings,
) -> None:
    makers = _makers(nodes, defined, findings)
    scope = (*outer, defined)
    reported = False
    for node in nodes:
        missing = [name for name in reads(node) if name and not _visible(name, scope)]
        early = {name for name in missing if name in makers}
        for name in dict.fromkeys(node.inputs):
            if name in missing and name not in early:
                _undefined(name, f"{node.label} reads", owner, findings)
        if early and not reported:
            _out_of_order(nodes, makers, node, min(early), owner, findings)
            reported = True
        for inner in node.subgraphs():
            check_graph(inner, (*scope, early), f"a body of {node.label}", findings)
        defined.update(name for name in node.outputs if name)
    for name in outputs:
        if name and not _visible(name, scope):
            _undefined(name, "an output is", owner, findings)


def _visible(name: str, scope: Sequence[set[str]]) -> bool:
    return any(name in names for names in reversed(scope))


def _makers(nodes: Sequence[Node], defined: set[str], findings: Findings) -> dict[str, int]:
    """Return the place of the node that makes each value; a value has one."""
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in node.outputs:
            if name in defined or name in makers:
                first = nodes[makers[name]].label if name in makers else "an input or initializer"
                findings.add(
                    "E0305",
                    f"value {quoted(name)} is defined twice",
                    ("first", first),
                    ("again", node.label),
                    fix="give each value its own name; export the model again",
                )
            elif name:
                makers[name] = place
    return makers


def _undefined(name: str, reader: str, owner: str, findings: Findings) -> None:
    findings.add(
        "E0305",
        f"{reader} {quoted(name)}, which nothing defines",
        ("in", owner),
        fix="add the missing input, initializer or node; export the model again",
    )


def _out_of_order(
    nodes: Sequence[Node],
    makers: Mapping[str, int],
    node: Node,
    name: str,
    owner: str,
    findings: Findings,
) -> None:
    """Report a cycle with its nodes, or else the first value that is read too early."""
    edges = {
        place: {makers[read] for read in reads(each) if read in makers}
        for place, each in enumerate(nodes)
    }
    cycle = find_cycle(edges)
    if not cycle:
        maker = nodes[makers[name]].label
        facts = (("defined by", maker), ("in", owner))
        what = f"{node.label} reads {quoted(name)} before it is defined"
        findings.add("E0305", what, *facts, fix=_SORT)
        return
    shown = " -> ".join(nodes[place].label for place in cycle[:_SHOWN_NODES])
    more = f" -> ... ({len(cycle)} steps)" if len(cycle) > _SHOWN_NODES else ""
    findings.add(
        "E0305",
        "nodes depend on each other in a cycle",
        ("cycle", shown + more),
        ("in", owner),
        fix="a loop is written with the Loop or Scan operator; export the model again",
    )


def reads(node: Node) -> Iterable[str]:
    """Return every name that a node reads from its own graph, also through its subgraphs."""
    return (*node.inputs, *(name for inner in node.subgraphs() for name in inner.captures))


def find_cycle(edges: Mapping[int, Iterable[int]] | Mapping[str, Iterable[str]]) -> list[int]:
    """Return a cycle of ``edges`` (from reader to what it reads), first and last equal, or []."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []
