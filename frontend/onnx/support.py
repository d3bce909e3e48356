"""The look over a model before any work: every operator without support, told at once."""

from collections.abc import Mapping, Sequence

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.registry import find_rule
from tapeout.frontend.onnx.schema_bodies import has_body
from tapeout.frontend.onnx.view import CheckedModel, Node, walk
from tapeout.ir.errors import CompileError

_SHOWN_NODES = 5


def unsupported_operators(model: CheckedModel) -> list[CompileError]:
    """One E0401 for each operator that has no rule or body."""
    return [unsupported_operator(key, nodes) for key, nodes in unsupported(model).items()]


def unsupported(model: CheckedModel) -> dict[tuple[str, str, int], list[Node]]:
    """Nodes without a rule or body by (domain, operator, version), in the order of the file."""
    found: dict[tuple[str, str, int], list[Node]] = {}
    for node in walk(model.graph.nodes):
        if find_rule(node.domain, node.op_type, node.version) is None and not has_body(node):
            found.setdefault((node.domain, node.op_type, node.version), []).append(node)
    return found


def unsupported_operator(key: tuple[str, str, int], nodes: Sequence[Node]) -> CompileError:
    """E0401 for one operator, (domain, name, version), with the nodes that use it."""
    domain, name, version = key
    labels = [node.label for node in nodes[:_SHOWN_NODES]]
    more = f" and {len(nodes) - _SHOWN_NODES} more" if len(nodes) > _SHOWN_NODES else ""
    facts: Mapping[str, object] = {
        "domain": quoted(domain or "ai.onnx"),
        "version": version,
        "nodes": ", ".join(labels) + more,
    }
    return CompileError(
        "E0401",
        f"operator {quoted(name)} has no support",
        tuple(facts.items()),
        "replace it by operators that have, or write it as a model-local function",
    )
