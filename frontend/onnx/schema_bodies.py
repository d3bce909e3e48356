"""Operators that ONNX itself defines by a body of simpler ones: the long tail, expanded.

The body is ONNX's; it goes through the same conversion as a model's own functions, and comes back
as nodes that the importer reads like any others. Some bodies depend on the types of the inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, cast

import onnx
from onnx import defs

from tapeout.frontend.onnx.checks import OPSETS, reads
from tapeout.frontend.onnx.convert import Converter, opset_versions
from tapeout.frontend.onnx.expand import FreshNames, expand_call
from tapeout.frontend.onnx.external_data import ExternalFiles
from tapeout.frontend.onnx.findings import Findings
from tapeout.frontend.onnx.limits import DEFAULT_LIMITS
from tapeout.frontend.onnx.source import SourceBytes
from tapeout.frontend.onnx.tensors import TensorReader
from tapeout.frontend.onnx.to_proto import node_proto, type_proto
from tapeout.frontend.onnx.view import Attribute, Function, Node, ValueType
from tapeout.frontend.onnx.wire import strip
from tapeout.ir.errors import CompileError

_LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)


def has_body(node: Node) -> bool:
    """Say whether ONNX defines ``node``'s operator, at its version, by a body."""
    schema = _schema(node.op_type, node.version, node.domain)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def function_body(
    node: Node, input_types: Sequence[ValueType | None], names: FreshNames
) -> list[Node]:
    """Return the body of ``node``'s operator in place of it, or ``[]`` when it has none.

    ``input_types`` has one entry for each input, None for an absent one. The nodes come in order,
    read ``node``'s inputs and write its outputs; every other name is fresh in ``names``. A body
    may again hold operators that have bodies. E0402 when ONNX cannot make a body for this node.
    """
    schema = _schema(node.op_type, node.version, node.domain)
    if schema is None:
        return []
    encoded = _encoded_body(schema, node, input_types)
    if not encoded:
        return []
    nodes = expand_call(node, _function(encoded, schema), names)
    _check_defined(node, nodes)
    return nodes


def _check_defined(call: Node, nodes: Sequence[Node]) -> None:
    """Refuse (E0402) a body that reads what nothing defines: the call lacks an input for it."""
    defined = set(reads(call))
    for node in nodes:
        missing = [name for name in reads(node) if name and name not in defined]
        if missing:
            raise CompileError(
                "E0402",
                f"{call.label} leaves out an input that its attributes ask for",
                (("wanted by", node.op_type),),
                "give the input, or change the attributes; export the model again",
            )
        defined.update(node.outputs)


class _Schema(Protocol):
    """What is read of ``onnx.defs.OpSchema``, whose own stubs are not whole."""

    attributes: Mapping[str, Any]
    has_function: bool
    has_context_dependent_function: bool
    function_opset_versions: Sequence[int]
    context_dependent_function_opset_versions: Sequence[int]

    def get_function_with_opset_version(self, version: int, /) -> bytes: ...

    def get_context_dependent_function_with_opset_version(
        self, version: int, node: bytes, input_types: Sequence[bytes], /
    ) -> bytes: ...


@cache
def _schema(op_type: str, version: int, domain: str) -> _Schema | None:
    try:
        return cast(_Schema, defs.get_schema(op_type, version, domain))
    except defs.SchemaError:
        return None


def _encoded_body(schema: _Schema, node: Node, input_types: Sequence[ValueType | None]) -> bytes:
    """Return the encoded ``FunctionProto`` that fits ``node``, empty when there is none."""
    if schema.has_function:
        version = _closest(schema.function_opset_versions, node.version)
        return schema.get_function_with_opset_version(version)
    if not schema.has_context_dependent_function:
        return b""
    types = [type_proto(each).SerializeToString() for each in input_types]
    call = node_proto(node).SerializeToString()
    version = _closest(schema.context_dependent_function_opset_versions, node.version)
    try:
        return schema.get_context_dependent_function_with_opset_version(version, call, types)
    except Exception as error:  # ONNX's C++ raises types of its own that share no other base
        raise CompileError(
            "E0402",
            f"{node.label} has no form that can be expanded",
            (("onnx says", error), ("input types", list(input_types))),
            "check the attributes and input types of this node",
        ) from error


def _closest(versions: Sequence[int], wanted: int) -> int:
    """Return the newest version up to ``wanted``, or else the oldest.

    Some bodies were written for an operator set after the operator's own; its nodes carry that
    version, so they mean the same wherever they stand.
    """
    return max((version for version in versions if version <= wanted), default=min(versions))


def _defaults(schema: _Schema) -> dict[str, Attribute]:
    given = {name: attribute.default_value for name, attribute in schema.attributes.items()}
    return {name: _plain(value) for name, value in given.items() if value.name}


def _plain(proto: onnx.AttributeProto) -> Attribute:
    value: Any = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if proto.type in _LISTS else value


def _function(encoded: bytes, schema: _Schema) -> Function:
    body = onnx.FunctionProto.FromString(encoded)
    # A body is read as the one function of an empty model: one way in for all that is read.
    model = onnx.ModelProto(functions=[body])
    source = SourceBytes(memoryview(model.SerializeToString()), None, None)
    stripped = strip(source.data, DEFAULT_LIMITS)
    proto = onnx.ModelProto.FromString(stripped.encoded).functions[0]
    findings = Findings()
    reader = TensorReader(source, stripped.spans, ExternalFiles(None), DEFAULT_LIMITS)
    convert = Converter(reader, findings, DEFAULT_LIMITS)
    # One body leaves out the import of ONNX's main domain, though it is written in it.
    opsets = {"": OPSETS[""][1], **opset_versions(proto.opset_import, "a body", findings)}
    function = convert.function(proto, opsets)
    findings.finish()
    return replace(function, defaults=_defaults(schema))
