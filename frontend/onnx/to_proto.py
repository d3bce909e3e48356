"""From the records of ``view`` back to protobuf: what ONNX's own functions take as arguments."""

from collections.abc import Mapping
from typing import Any

from onnx import (
    AttributeProto,
    GraphProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    numpy_helper,
)

from tapeout.frontend.onnx.element_types import element_code
from tapeout.frontend.onnx.view import (
    Attribute,
    AttributeRef,
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


def node_proto(node: Node) -> NodeProto:
    """Return ``node`` as ONNX writes it; it may not refer to a function's attributes."""
    return NodeProto(
        op_type=node.op_type,
        domain=node.domain,
        name=node.name,
        input=node.inputs,
        output=node.outputs,
        attribute=[attribute_proto(name, value) for name, value in node.attrs.items()],
    )


def type_proto(kind: ValueType | None) -> TypeProto:
    """Return ``kind`` as ONNX writes it; None and types without tensors are left open."""
    if isinstance(kind, TensorType):
        tensor = TypeProto.Tensor(elem_type=element_code(kind.dtype))
        if kind.shape is not None:
            tensor.shape.SetInParent()
            for dim in kind.shape:
                _add_dim(tensor.shape.dim.add(), dim)
        return TypeProto(tensor_type=tensor)
    if isinstance(kind, SequenceType):
        return TypeProto(sequence_type=TypeProto.Sequence(elem_type=type_proto(kind.element)))
    if isinstance(kind, OptionalType):
        return TypeProto(optional_type=TypeProto.Optional(elem_type=type_proto(kind.element)))
    return TypeProto()


def _add_dim(proto: Any, dim: int | str | None) -> None:
    if isinstance(dim, int):
        proto.dim_value = dim
    elif dim is not None:
        proto.dim_param = dim


def attribute_proto(name: str, value: Attribute) -> AttributeProto:
    """Return one attribute; an empty list is written as one of integers."""
    assert not isinstance(value, AttributeRef), "references are bound before a node is written"
    if isinstance(value, tuple):
        first = value[0] if value else 0
        kind, plural, items = _content(first)[0], _PLURALS[_content(first)[0]], value
        proto = AttributeProto(name=name, type=kind + "S")
        getattr(proto, plural).extend([_content(item)[1] for item in items])
        return proto
    kind, content = _content(value)
    fields = {_SINGULARS[kind]: content}
    return AttributeProto(name=name, type=kind, **fields)


_PLURALS: Mapping[str, str] = {
    "FLOAT": "floats",
    "INT": "ints",
    "STRING": "strings",
    "TENSOR": "tensors",
    "GRAPH": "graphs",
    "TYPE_PROTO": "type_protos",
}
_SINGULARS: Mapping[str, str] = {
    "FLOAT": "f",
    "INT": "i",
    "STRING": "s",
    "TENSOR": "t",
    "GRAPH": "g",
    "TYPE_PROTO": "tp",
}


def _content(value: object) -> tuple[str, Any]:
    """Return the type's name and what is stored."""
    match value:
        case float():
            return "FLOAT", value
        case int():
            return "INT", value
        case str():
            return "STRING", value.encode()
        case Tensor():
            return "TENSOR", _tensor_proto(value)
        case Graph():
            return "GRAPH", _graph_proto(value)
        case TensorType() | SequenceType() | OptionalType() | OtherType():
            return "TYPE_PROTO", type_proto(value)
        case _:
            raise AssertionError(f"no attribute holds a {type(value).__name__}")


def _tensor_proto(tensor: Tensor) -> TensorProto:
    return numpy_helper.from_array(tensor.array, tensor.name)


def _graph_proto(graph: Graph) -> GraphProto:
    return GraphProto(
        name=graph.name,
        node=[node_proto(node) for node in graph.nodes],
        input=[_value_info(info) for info in graph.inputs],
        output=[_value_info(info) for info in graph.outputs],
        initializer=[
            numpy_helper.from_array(tensor.array, name)
            for name, tensor in graph.initializers.items()
        ],
    )


def _value_info(info: ValueInfo) -> ValueInfoProto:
    proto = ValueInfoProto(name=info.name)
    if info.type is not None:
        proto.type.CopyFrom(type_proto(info.type))
    return proto
