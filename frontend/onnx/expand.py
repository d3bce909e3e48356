"""One call replaced by the body of what it calls: attributes substituted, every name fresh.

Every value that the body defines is renamed, in subgraphs too: a name that the call passes in
could otherwise be caught by a value of the same name inside the body.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.view import (
    Attribute,
    AttributeKind,
    AttributeRef,
    Function,
    Graph,
    Node,
    OptionalType,
    OtherType,
    SequenceType,
    Tensor,
    TensorType,
    ValueInfo,
    walk,
)
from tapeout.ir.errors import CompileError

_KEPT_CHARACTERS = 64

_IDENTITY_VERSION = 16
"""The first ``Identity`` that takes tensors, sequences and optionals."""


@dataclass
class FreshNames:
    """Gives out names that no value of a model has, each once."""

    taken: set[str] = field(default_factory=set[str])
    given: int = 0

    @classmethod
    def beside(cls, graph: Graph) -> "FreshNames":
        """Know every value name in ``graph`` and the graphs inside it."""
        return cls(set(_value_names(graph)))

    def fresh(self, hint: str) -> str:
        """Return a new name that starts like ``hint``."""
        while True:
            self.given += 1
            name = f"{hint[:_KEPT_CHARACTERS]}.{self.given}"
            if name not in self.taken:
                self.taken.add(name)
                return name


def _value_names(graph: Graph) -> Iterator[str]:
    graphs = [graph, *(inner for node in walk(graph.nodes) for inner in node.subgraphs())]
    for each in graphs:
        yield from (info.name for info in (*each.inputs, *each.outputs))
        yield from each.initializers
    for node in walk(graph.nodes):
        yield from (*node.inputs, *node.outputs)


def expand_call(call: Node, function: Function, names: FreshNames) -> list[Node]:
    """Return the nodes of ``function``'s body in place of ``call``.

    Inputs that the call leaves out are absent in the body too; so are attributes that neither the
    call nor a default gives. E0310 when an attribute of the call has another type than its use.
    """
    actual = dict.fromkeys(function.inputs, "")
    actual.update(zip(function.inputs, call.inputs, strict=False))
    handed: list[tuple[str, str]] = []
    made = {name for node in function.nodes for name in node.outputs}
    for formal, wanted in zip(function.outputs, call.outputs, strict=False):
        if wanted and formal in made and formal not in actual:
            actual[formal] = wanted
        elif wanted:
            handed.append((formal, wanted))
    preset = frozenset(actual).difference(function.inputs)
    body = _Renaming(call, {**function.defaults, **call.attrs}, names)
    nodes = body.nodes(function.nodes, actual, preset)
    return [*nodes, *(_identity(call, actual[formal], wanted) for formal, wanted in handed)]


def map_graphs(node: Node, change: Callable[[Graph], Graph]) -> Node:
    """Return ``node`` with each of its subgraphs changed."""
    if not any(True for _ in node.subgraphs()):
        return node
    return replace(node, attrs={key: _mapped(value, change) for key, value in node.attrs.items()})


def _mapped(value: Attribute, change: Callable[[Graph], Graph]) -> Attribute:
    if isinstance(value, Graph):
        return change(value)
    if isinstance(value, tuple) and value and isinstance(value[0], Graph):
        return tuple(change(item) for item in value if isinstance(item, Graph))
    return value


def _identity(call: Node, source: str, target: str) -> Node:
    if not source:
        raise CompileError(
            "E0309",
            f"{call.label} returns an input that the call leaves out",
            (("output", quoted(target)),),
            "give the input, or leave the output out",
        )
    return Node("Identity", "", _IDENTITY_VERSION, call.name, (source,), (target,), {}, call.index)


@dataclass(frozen=True)
class _Renaming:
    """Copies a body for one call: ``given`` are its attributes.

    A scope maps the body's names to the model's. ``preset`` are the names that the caller has
    chosen for the body's outputs; whatever else the body defines gets a fresh name.
    """

    call: Node
    given: Mapping[str, Attribute]
    names: FreshNames

    def nodes(
        self, nodes: Iterable[Node], scope: dict[str, str], preset: frozenset[str]
    ) -> tuple[Node, ...]:
        """Copy ``nodes``; ``scope`` grows by the names that they define."""
        return tuple(self._node(node, scope, preset) for node in nodes)

    def _node(self, node: Node, scope: dict[str, str], preset: frozenset[str]) -> Node:
        bound = {key: self._bound(value, node) for key, value in node.attrs.items()}
        inputs = tuple(scope.get(name, name) for name in node.inputs)
        given = replace(node, attrs={key: v for key, v in bound.items() if v is not None})
        inner = map_graphs(given, lambda graph: self._graph(graph, dict(scope)))
        for name in node.outputs:
            if name and name not in preset:
                scope[name] = self.names.fresh(name)
        return replace(
            inner,
            inputs=inputs,
            outputs=tuple(scope.get(name, name) for name in node.outputs),
            name=f"{self.call.name[:_KEPT_CHARACTERS]}/{node.name[:_KEPT_CHARACTERS]}",
            index=self.call.index,
        )

    def _graph(self, graph: Graph, scope: dict[str, str]) -> Graph:
        captures = dict.fromkeys(scope.get(name, name) for name in graph.captures)
        locals_ = dict.fromkeys([*(info.name for info in graph.inputs), *graph.initializers])
        scope.update({name: self.names.fresh(name) for name in locals_})
        nodes = self.nodes(graph.nodes, scope, frozenset())
        return Graph(
            graph.name,
            nodes,
            tuple(_renamed(info, scope) for info in graph.inputs),
            tuple(_renamed(info, scope) for info in graph.outputs),
            {scope[n]: replace(t, name=scope[n]) for n, t in graph.initializers.items()},
            tuple(name for name in captures if name),
        )

    def _bound(self, value: Attribute, node: Node) -> Attribute | None:
        if not isinstance(value, AttributeRef):
            return value
        given = self.given.get(value.name)
        if given is None or attribute_is_of(given, value.kind):
            return given
        raise CompileError(
            "E0310",
            f"{self.call.label} gives attribute {quoted(value.name)} but not of the type used",
            (("used by", node.label), ("type", value.kind)),
            "export the model again",
        )


def attribute_is_of(value: Attribute, kind: AttributeKind) -> bool:
    """Say whether ``value`` can stand where ``kind`` is meant; ``()`` is any list."""
    if isinstance(value, AttributeRef):
        return value.kind == kind
    if kind == "UNDEFINED":
        return True
    if kind.endswith("S"):
        singular = _CLASSES[kind.removesuffix("S")]
        return isinstance(value, tuple) and all(isinstance(item, singular) for item in value)
    return isinstance(value, _CLASSES[kind])


_CLASSES: Mapping[str, tuple[type, ...]] = {
    "FLOAT": (float,),
    "INT": (int,),
    "STRING": (str,),
    "TENSOR": (Tensor,),
    "SPARSE_TENSOR": (Tensor,),
    "GRAPH": (Graph,),
    "TYPE_PROTO": (TensorType, SequenceType, OptionalType, OtherType),
}


def _renamed(info: ValueInfo, scope: Mapping[str, str]) -> ValueInfo:
    return replace(info, name=scope.get(info.name, info.name))
