"""All refusals of a model at once: after the first one, the look over the rest goes on.

What a refused node would have made is stood in for by a value of the type that ONNX infers. The
module is lost by then; the values serve the nodes behind. What these say of stand-ins counts only
as far as it is about their operator (E0401, E0402): sizes and contents are guesses.
"""

from collections.abc import Mapping, Sequence

import onnx
from onnx import defs, shape_inference
from xdsl.dialects.builtin import UnrealizedConversionCastOp

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.interface import element_type
from tapeout.frontend.onnx.known import NotKnown, NotKnowns
from tapeout.frontend.onnx.to_proto import node_proto, type_proto
from tapeout.frontend.onnx.value import AnyValue, Value
from tapeout.frontend.onnx.view import Node, TensorType
from tapeout.ir.errors import CompileError, CompileErrors
from tapeout.ir.expr import as_expr
from tapeout.ir.types import Spec
from tapeout.ir.types import TensorType as SSAType

SHOWN = 20
"""Refusals told in full."""

ABOUT_OPERATORS = ("E0401", "E0402")
WELL_FORMED = ("E0402", "E0405", "E0406")
"""Refusals of nodes that are as ONNX defines them; no inference is asked about others."""


class Refusals:
    """What was refused so far, and which values stand in, by name."""

    def __init__(self, found: Sequence[CompileError] = ()) -> None:
        """Begin with refusals of before, such as operators without support (E0401)."""
        self.errors: dict[str, CompileError] = {str(e): e for e in found}
        self.guessed: set[str] = set()
        self.lost: set[str] = set()
        self._listed = any(e.code == "E0401" for e in found)

    def is_lost(self, node: Node) -> bool:
        """Whether a value that a node reads has not even a stand-in; its outputs are lost too."""
        lost = not self.lost.isdisjoint(reads(node))
        if lost:
            self.lost.update(node.outputs)
        return lost

    def is_guess(self, node: Node) -> bool:
        """Whether a node reads what stands in for something; its outputs are guesses too."""
        guess = not self.guessed.isdisjoint(reads(node))
        if guess:
            self.guessed.update(node.outputs)
        return guess

    def keep(self, error: CompileError, *, guess: bool) -> None:
        """Note a refusal, once, unless it is about a guess."""
        for each in error.errors if isinstance(error, CompileErrors) else (error,):
            told = self._listed and each.code == "E0401"
            if not told and (each.code in ABOUT_OPERATORS or not guess):
                self.errors.setdefault(str(each), each)

    def stand_ins(
        self, b: Builder, node: Node, given: Sequence[AnyValue | None], code: str
    ) -> dict[str, AnyValue]:
        """Values for the outputs of a node refused with ``code``, as far as types are known."""
        is_plain = code in WELL_FORMED and not any(node.subgraphs())
        types: Mapping[str, onnx.TypeProto] = _inferred(node, given) if is_plain else {}
        made: dict[str, AnyValue] = {}
        for name in filter(None, node.outputs):
            spec = _spec(b, name, types.get(name))
            if spec is not None:
                cast = UnrealizedConversionCastOp(operands=[[]], result_types=[[SSAType(spec)]])
                b.append(cast)
                made[name] = Value(spec, ssa=cast.results[0])
        self.guessed.update(made)
        self.lost.update(set(node.outputs) - {""} - made.keys())
        return made

    def finish(self) -> None:
        """Raise what was found: one refusal as itself, several as one that tells all."""
        errors = list(self.errors.values())
        if not errors:
            return
        if len(errors) == 1:
            raise errors[0]
        first, rest = errors[0], len(errors) - SHOWN
        if rest > 0:
            more = CompileError(first.code, f"{rest} more refusals are not shown")
            errors = [*errors[:SHOWN], more]
        facts, what = (("refusals", len(self.errors)),), "the model is refused"
        inputs = [n for e in self.errors.values() if isinstance(e, NotKnown) for n in e.inputs]
        if inputs:
            known = tuple(dict.fromkeys(inputs))
            raise NotKnowns(first.code, what, facts, first.fix, inputs=known, errors=errors)
        raise CompileErrors(first.code, what, facts, first.fix, errors=errors)


def reads(node: Node) -> list[str]:
    """Names that a node reads, those of graphs in it included."""
    inner = [name for graph in node.subgraphs() for name in graph.captures]
    return [*filter(None, node.inputs), *inner]


def _inferred(node: Node, given: Sequence[AnyValue | None]) -> Mapping[str, onnx.TypeProto]:
    """Output types by ONNX's own inference; nothing where it knows nothing."""
    types: dict[str, onnx.TypeProto] = {}
    for name, value in zip(node.inputs, given, strict=False):
        if isinstance(value, Value):
            shape = tuple(d.constant for d in value.dims)
            types[name] = type_proto(TensorType(value.dtype.numpy, shape))
    if any(name and name not in types for name in node.inputs):
        return {}
    opsets = [onnx.OperatorSetIdProto(domain=node.domain, version=node.version)]
    try:
        schema = defs.get_schema(node.op_type, node.version, node.domain)
        return shape_inference.infer_node_outputs(
            schema, node_proto(node), types, opset_imports=opsets
        )
    except Exception:  # ONNX's C++ raises types of its own that share no other base
        return {}


def _spec(b: Builder, owner: str, proto: onnx.TypeProto | None) -> Spec | None:
    """The type of a stand-in: a new symbol for each open size; None when the rank is open."""
    if proto is None or not proto.tensor_type.HasField("shape"):
        return None
    dims = [
        as_expr(d.dim_value) if d.HasField("dim_value") else b.symbols.fresh("n")
        for d in proto.tensor_type.shape.dim
    ]
    numpy = onnx.helper.tensor_dtype_to_np_dtype(proto.tensor_type.elem_type)
    try:
        return Spec(tuple(dims), element_type(numpy, owner))
    except CompileError:
        return None
