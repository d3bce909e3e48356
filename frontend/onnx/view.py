"""A model as an importer reads it: plain frozen records, every string and array already checked.

An importer never touches protobuf. A subgraph (a body of If, Loop, Scan) is a :class:`Graph` in
its node's attributes; ``captures`` names the values it reads from the graphs around it, so an
importer looks names up in its own scope first and then outwards. Functions are calls to
:class:`Function`; ``functions.inline_functions`` replaces them by their bodies.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tapeout.frontend.onnx.findings import quoted

Dim = int | str | None
"""A dimension: known, named (any text at all), or unknown."""


@dataclass(frozen=True)
class Origin:
    """Where a tensor's bytes lie: ``length`` bytes from ``offset`` of the file ``path``."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant. ``array`` is read-only and, for raw and external data, a view of the mapped file.

    Types beyond numpy's are ``ml_dtypes``; 2-, 4- and 6-bit elements are unpacked, one a byte;
    strings are ``object``. A view may be unaligned (``array.flags.aligned``). ``origin`` is where
    the bytes lie in a file, None when they were decoded or came from memory.
    """

    name: str
    array: npt.NDArray[Any]
    origin: Origin | None = None


@dataclass(frozen=True)
class TensorType:
    """A tensor; ``shape`` is None when even the rank is unknown. Strings have dtype ``object``."""

    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None


@dataclass(frozen=True)
class SequenceType:
    """A list of values of one type."""

    element: "ValueType"


@dataclass(frozen=True)
class OptionalType:
    """A value or nothing."""

    element: "ValueType"


@dataclass(frozen=True)
class OtherType:
    """A type that no operator here takes: ``map``, ``opaque`` or ``sparse_tensor``."""

    kind: str


ValueType = TensorType | SequenceType | OptionalType | OtherType


@dataclass(frozen=True)
class ValueInfo:
    """A graph's input or output. ``type`` is None where the file leaves it open.

    Only outputs of a graph and inputs of a subgraph may be open: their types follow from the rest.
    """

    name: str
    type: ValueType | None


AttributeKind = Literal[
    "UNDEFINED", "FLOAT", "INT", "STRING", "TENSOR", "SPARSE_TENSOR", "GRAPH", "TYPE_PROTO",
    "FLOATS", "INTS", "STRINGS", "TENSORS", "SPARSE_TENSORS", "GRAPHS", "TYPE_PROTOS",
]  # fmt: skip


@dataclass(frozen=True)
class AttributeRef:
    """Inside a function: the value of the call's attribute ``name``, which is of ``kind``.

    ``UNDEFINED`` is a type left open; only ONNX's own bodies have such.
    """

    name: str
    kind: AttributeKind


FunctionKey = tuple[str, str, str]
"""``(domain, name, overload)``; the domain ``ai.onnx`` is spelled ``""``."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. ``version`` is that of its domain's operator set in force where it stands.

    An absent optional input or an unwanted output is ``""``. ``index`` is its place in its graph;
    nodes from an inlined body carry the place of the call.
    """

    op_type: str
    domain: str
    version: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, "Attribute"] = field(default_factory=dict[str, "Attribute"])
    index: int = 0
    overload: str = ""

    @property
    def key(self) -> FunctionKey:
        """The function that this node calls, if there is one of that name."""
        return (self.domain, self.op_type, self.overload)

    @property
    def label(self) -> str:
        """The node as messages name it; print it through ``printable``."""
        name = quoted(self.name) if self.name else f"#{self.index}"
        domain = f"{self.domain}." if self.domain else ""
        return f"node {name} ({domain}{self.op_type})"

    def subgraphs(self) -> Iterator["Graph"]:
        """Yield the graphs in this node's attributes."""
        for value in self.attrs.values():
            yield from graphs_in(value)


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph, its nodes in an order in which every value is defined before it is read.

    An initializer with the name of an input is that input's default value. ``captures`` are the
    names read here and in graphs inside that are defined around this graph, in order of first use.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    initializers: Mapping[str, Tensor]
    captures: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Function:
    """A model-local function: formal names, the attributes a call must or may give, a body."""

    key: FunctionKey
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    required: tuple[str, ...]
    defaults: Mapping[str, "Attribute"]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]

    @property
    def label(self) -> str:
        """The function as messages name it."""
        domain, name, overload = self.key
        return f"function {quoted('.'.join(part for part in (domain, name, overload) if part))}"


Attribute = (
    int
    | float
    | str
    | Tensor
    | ValueType
    | AttributeRef
    | Graph
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[str, ...]
    | tuple[Tensor, ...]
    | tuple[ValueType, ...]
    | tuple[Graph, ...]
)
"""An attribute's value; sparse tensors are made dense. ``AttributeRef`` only inside functions."""


def graphs_in(value: Attribute) -> Iterator[Graph]:
    """Yield the graphs in one attribute value."""
    if isinstance(value, Graph):
        yield value
    elif isinstance(value, tuple):
        yield from (item for item in value if isinstance(item, Graph))


@dataclass(frozen=True, eq=False)
class CheckedModel:
    """A model whose structure holds: names, order, sizes, data, nesting. Operators are not judged.

    ``opsets`` maps a domain (``""`` for ONNX's own) to its version. ``path`` is None for a model
    from memory.
    """

    path: Path | None
    ir_version: int
    opsets: Mapping[str, int]
    graph: Graph
    functions: Mapping[FunctionKey, Function]


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield nodes and those of the graphs inside them, without recursion."""
    stack = [iter(nodes)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
        else:
            yield node
            stack += [iter(graph.nodes) for graph in node.subgraphs()]
