"""What a hostile model is, and small tools to build one without any check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

AT_LOAD = "refused by load_model"
AT_IMPORT = "refused by compile, after load_model took it"
COMPILES = "compiles, and the marker is not in generated code"
EITHER = "refused with a code, or compiles as COMPILES does"

MARKER = "INJ3CT"
"""Stands in every name that would do harm if it reached generated code as it is."""

F32 = TensorProto.FLOAT
I64 = TensorProto.INT64

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Hostile:
    """One model: ``build`` writes it into an empty folder and returns the path to compile.

    ``codes`` are the codes it may be refused with, any when empty; ``says`` must all stand in the
    message. ``dims`` are passed on to ``compile``.
    """

    name: str
    build: Build
    outcome: str
    codes: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    dims: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


MODELS: list[Hostile] = []


def hostile(
    outcome: str,
    *codes: str,
    says: Sequence[str] = (),
    dims: Mapping[str, tuple[int, int]] | None = None,
) -> Callable[[Build], Build]:
    """Add the builder below to ``MODELS`` under its own name."""

    def add(build: Build) -> Build:
        MODELS.append(Hostile(build.__name__, build, outcome, codes, tuple(says), dims or {}))
        return build

    return add


def value(name: str, shape: Sequence[int | str | None] | None = (2,), kind: int = F32):
    """Return a tensor's declaration."""
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, array: object, dtype: npt.DTypeLike = np.float32) -> TensorProto:
    """Return an initializer."""
    content: Any = np.array(array, dtype)
    return onnx.numpy_helper.from_array(content, name)


def model(
    nodes: Sequence[NodeProto] = (),
    inputs: Sequence[ValueInfoProto] | None = None,
    outputs: Sequence[ValueInfoProto] | None = None,
    constants: Sequence[TensorProto] = (),
    opset: int = 20,
) -> ModelProto:
    """Return a model with nothing checked: x -> y by default, both float32 [2]."""
    graph = GraphProto(
        name="g",
        node=nodes or [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        input=[value("x")] if inputs is None else inputs,
        output=[value("y")] if outputs is None else outputs,
        initializer=constants,
    )
    return ModelProto(ir_version=10, graph=graph, opset_import=[helper.make_opsetid("", opset)])


def save(folder: Path, content: ModelProto | bytes) -> Path:
    """Write ``model.onnx``."""
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def varint(number: int) -> bytes:
    """Encode a protobuf number."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(field_number: int, body: bytes) -> bytes:
    """Encode a field that holds a message or text."""
    return varint(field_number << 3 | 2) + varint(len(body)) + body
