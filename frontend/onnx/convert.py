"""From parsed protobuf to the records of ``view``: every attribute, type and constant checked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto

from tapeout.frontend.onnx.element_types import element_type
from tapeout.frontend.onnx.findings import Findings, quoted
from tapeout.frontend.onnx.limits import Limits
from tapeout.frontend.onnx.tensors import TensorReader
from tapeout.frontend.onnx.view import (
    Attribute,
    AttributeKind,
    AttributeRef,
    Dim,
    Function,
    Graph,
    Node,
    OptionalType,
    OtherType,
    SequenceType,
    Tensor,
    TensorType,
    ValueInfo,
    ValueType,
)
from tapeout.ir.errors import CompileError

_EXPORT_AGAIN = "export the model again"
_FIELDS = {
    "FLOAT": "f",
    "INT": "i",
    "STRING": "s",
    "TENSOR": "t",
    "GRAPH": "g",
    "SPARSE_TENSOR": "sparse_tensor",
    "TYPE_PROTO": "tp",
    "FLOATS": "floats",
    "INTS": "ints",
    "STRINGS": "strings",
    "TENSORS": "tensors",
    "GRAPHS": "graphs",
    "SPARSE_TENSORS": "sparse_tensors",
    "TYPE_PROTOS": "type_protos",
}
_SCALAR_FIELDS = ("f", "i", "s", "t", "g", "sparse_tensor", "tp")
_MUST_BE_PRESENT = ("TENSOR", "GRAPH", "SPARSE_TENSOR", "TYPE_PROTO")
_TYPE_WITHOUT_VALUE = "UNDEFINED"


def domain_of(name: str) -> str:
    """Return the domain's one spelling: ``ai.onnx`` is ``""``."""
    return "" if name == "ai.onnx" else name


@dataclass(frozen=True)
class Converter:
    """Converts one model's protos; faults go to ``findings``, and what is at fault is left out."""

    tensors: TensorReader
    findings: Findings
    limits: Limits

    def graph(self, proto: GraphProto, opsets: dict[str, int], where: str = "") -> Graph:
        """Convert a graph; ``where`` names the node that holds it, for messages."""
        nodes = self.nodes(proto.node, opsets, where)
        inputs = tuple(self._value(info, needs_type=not where) for info in proto.input)
        outputs = tuple(self._value(info, needs_type=False) for info in proto.output)
        constants = self._constants(proto, where)
        captures = _captures(nodes, [info.name for info in inputs], outputs, constants)
        return Graph(proto.name, nodes, inputs, outputs, constants, captures)

    def function(self, proto: FunctionProto, opsets: dict[str, int]) -> Function:
        """Convert a function body; ``opsets`` are the versions that it asks for."""
        key = (domain_of(proto.domain), proto.name, proto.overload)
        defaults = self._attributes(proto.attribute_proto, opsets, f"function {quoted(proto.name)}")
        return Function(
            key,
            tuple(proto.input),
            tuple(proto.output),
            tuple(proto.attribute),
            defaults,
            self.nodes(proto.node, opsets, f"function {quoted(proto.name)}"),
            opsets,
        )

    def nodes(
        self, protos: Sequence[NodeProto], opsets: dict[str, int], where: str
    ) -> tuple[Node, ...]:
        """Convert a list of nodes, each with the version of its domain in force."""
        return tuple(self._node(proto, i, opsets, where) for i, proto in enumerate(protos))

    def _node(self, proto: NodeProto, index: int, opsets: dict[str, int], where: str) -> Node:
        domain = domain_of(proto.domain)
        bare = Node(
            proto.op_type,
            domain,
            opsets.get(domain, 0),
            proto.name,
            tuple(proto.input),
            tuple(proto.output),
            {},
            index,
            proto.overload,
        )
        label = f"{bare.label} in {where}" if where else bare.label
        if not proto.op_type:
            self.findings.add("E0305", f"{label} names no operator", fix=_EXPORT_AGAIN)
        if domain not in opsets:
            self.findings.add(
                "E0303",
                f"{label} is of a domain whose operator set is not imported",
                ("domain", quoted(domain or "ai.onnx")),
                ("imported", ", ".join(quoted(name or "ai.onnx") for name in opsets)),
                fix="add the domain to opset_import, or export the model again",
            )
        attrs = self._attributes(proto.attribute, opsets, label)
        return replace(bare, attrs=attrs)

    def _constants(self, proto: GraphProto, where: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        dense = [(t.name, lambda t=t: self.tensors.dense(t)) for t in proto.initializer]
        sparse = [
            (t.values.name, lambda t=t: self.tensors.sparse(t)) for t in proto.sparse_initializer
        ]
        for name, decode in [*dense, *sparse]:
            tensor = self.findings.attempt(decode)
            if not name or name in found:
                what = f"initializer {quoted(name)} {'is defined twice' if name else 'has no name'}"
                self.findings.add("E0305", what, ("in", where or "the graph"), fix=_EXPORT_AGAIN)
            # A tensor at fault still defines its name: one mistake is told once.
            found[name] = tensor or Tensor(name, np.zeros(0, np.float32))
        return found

    def _value(self, info: ValueInfoProto, *, needs_type: bool) -> ValueInfo:
        owner = f"value {quoted(info.name)}"
        kind = self.findings.attempt(lambda: self.type(info.type, owner))
        if kind is None and needs_type and info.type.WhichOneof("value") is None:
            self.findings.add(
                "E0306", f"graph input {quoted(info.name)} has no type", fix=_EXPORT_AGAIN
            )
        return ValueInfo(info.name, kind)

    def type(self, proto: TypeProto, owner: str) -> ValueType | None:
        """Convert a type, None when it is left open (E0306 when it cannot be)."""
        kind = proto.WhichOneof("value")
        if kind == "tensor_type":
            return self._tensor_type(proto.tensor_type, owner)
        if kind == "sequence_type":
            return SequenceType(self._element(proto.sequence_type.elem_type, owner))
        if kind == "optional_type":
            return OptionalType(self._element(proto.optional_type.elem_type, owner))
        return None if kind is None else OtherType(kind.removesuffix("_type"))

    def _element(self, proto: TypeProto, owner: str) -> ValueType:
        return self.type(proto, owner) or OtherType("element of unknown type")

    def _tensor_type(self, proto: TypeProto.Tensor, owner: str) -> TensorType:
        dtype = element_type(proto.elem_type, owner).dtype
        if not proto.HasField("shape"):
            return TensorType(dtype, None)
        shape = tuple(_dim(dim) for dim in proto.shape.dim)
        bad = [dim for dim in shape if isinstance(dim, int) and dim < 0]
        if bad or len(shape) > self.limits.rank:
            raise CompileError(
                "E0306",
                f"{owner} has a shape that no tensor has",
                (("negative", bad[:8]), ("rank", len(shape)), ("highest rank", self.limits.rank)),
                "give each dimension a size, a name, or leave it open",
            )
        return TensorType(dtype, shape)

    def _attributes(
        self, protos: Iterable[AttributeProto], opsets: dict[str, int], where: str
    ) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {}
        for proto in protos:
            if not proto.name or proto.name in found:
                why = "is given twice" if proto.name else "has no name"
                what = f"attribute {quoted(proto.name)} of {where} {why}"
                self.findings.add("E0310", what, fix=_EXPORT_AGAIN)
                continue
            value = self.findings.attempt(lambda proto=proto: self._attribute(proto, opsets, where))
            if value is not None:
                found[proto.name] = value
        return found

    def _attribute(self, proto: AttributeProto, opsets: dict[str, int], where: str) -> Attribute:
        kind = _attribute_kind(proto, where)
        if proto.ref_attr_name:
            return AttributeRef(proto.ref_attr_name, cast(AttributeKind, kind))
        content = getattr(proto, _FIELDS[kind])
        if kind in ("FLOAT", "INT"):
            return content
        if kind in ("FLOATS", "INTS"):
            return tuple(content)
        if kind == "STRING":
            return _text(content, proto.name, where)
        if kind == "STRINGS":
            return tuple(_text(item, proto.name, where) for item in content)
        one: dict[str, Callable[[Any], Any]] = {
            "TENSOR": self.tensors.dense,
            "SPARSE_TENSOR": self.tensors.sparse,
            "GRAPH": lambda graph: self.graph(graph, opsets, where),
            "TYPE_PROTO": lambda kind: self._element(kind, where),
        }
        convert = one[kind.removesuffix("S")]
        return tuple(convert(item) for item in content) if kind.endswith("S") else convert(content)


def opset_versions(
    imports: Iterable[onnx.OperatorSetIdProto], owner: str, findings: Findings
) -> dict[str, int]:
    """Return the version of each imported domain; one domain may not have two (E0303)."""
    found: dict[str, int] = {}
    for entry in imports:
        domain = domain_of(entry.domain)
        if found.setdefault(domain, entry.version) != entry.version:
            findings.add(
                "E0303",
                f"{owner} imports two versions of one domain",
                ("domain", quoted(domain or "ai.onnx")),
                ("versions", f"{found[domain]} and {entry.version}"),
                fix=_EXPORT_AGAIN,
            )
    return found


def _dim(proto: onnx.TensorShapeProto.Dimension) -> Dim:
    kind = proto.WhichOneof("value")
    if kind == "dim_value":
        return proto.dim_value
    return proto.dim_param or None


def _attribute_kind(proto: AttributeProto, where: str) -> str:
    """Return the attribute's type once its content, or its reference, agrees with it."""
    owner = f"attribute {quoted(proto.name)} of {where}"
    present = [name for name in _FIELDS.values() if _present(proto, name)]
    if proto.type not in AttributeProto.AttributeType.values():
        raise _bad_attribute(owner, "its type is unknown", ("type", proto.type))
    kind = AttributeProto.AttributeType.Name(proto.type)
    if kind == _TYPE_WITHOUT_VALUE:
        kinds = [name for name, field in _FIELDS.items() if field in present]
        if proto.ref_attr_name and not kinds:
            return kind
        if len(kinds) != 1 or proto.ref_attr_name:
            raise _bad_attribute(owner, "it has no type", ("content", ", ".join(present)))
        return kinds[0]
    foreign = [name for name in present if name != _FIELDS[kind] or proto.ref_attr_name]
    if foreign:
        facts = (("type", kind), ("content", ", ".join(present)))
        raise _bad_attribute(owner, "its content is not of its type", *facts)
    if kind in _MUST_BE_PRESENT and not present and not proto.ref_attr_name:
        raise _bad_attribute(owner, "it has no content", ("type", kind))
    return kind


def _present(proto: AttributeProto, name: str) -> bool:
    return proto.HasField(name) if name in _SCALAR_FIELDS else len(getattr(proto, name)) > 0


def _bad_attribute(owner: str, why: str, *facts: tuple[str, object]) -> CompileError:
    return CompileError("E0310", f"{owner} is malformed: {why}", facts, _EXPORT_AGAIN)


def _text(content: bytes, name: str, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        owner = f"attribute {quoted(name)} of {where}"
        raise _bad_attribute(owner, "it is not UTF-8", ("at", error.start)) from error


def _captures(
    nodes: Sequence[Node],
    inputs: Sequence[str],
    outputs: Sequence[ValueInfo],
    constants: Iterable[str],
) -> tuple[str, ...]:
    """Return what is read before anything here defines it, in order of first use."""
    defined = {"", *inputs, *constants}
    found: dict[str, None] = {}
    for node in nodes:
        read = [*node.inputs, *(name for graph in node.subgraphs() for name in graph.captures)]
        found.update(dict.fromkeys(name for name in read if name not in defined))
        defined.update(node.outputs)
    found.update(dict.fromkeys(info.name for info in outputs if info.name not in defined))
    return tuple(found)
