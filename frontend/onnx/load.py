"""``load_model``: a model file, read safely before any operator is looked at."""

from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from tapeout.frontend.onnx.checks import check_function, check_main_graph, check_versions
from tapeout.frontend.onnx.convert import Converter, opset_versions
from tapeout.frontend.onnx.external_data import ExternalFiles
from tapeout.frontend.onnx.findings import Findings, quoted
from tapeout.frontend.onnx.functions import check_calls
from tapeout.frontend.onnx.limits import DEFAULT_LIMITS, Limits
from tapeout.frontend.onnx.source import ModelSource, SourceBytes, read_source
from tapeout.frontend.onnx.tensors import TensorReader
from tapeout.frontend.onnx.view import CheckedModel, Function, FunctionKey
from tapeout.frontend.onnx.wire import Stripped, strip
from tapeout.ir.errors import CompileError


def load_model(
    source: ModelSource, *, folder: str | Path | None = None, limits: Limits = DEFAULT_LIMITS
) -> CheckedModel:
    """Read an ONNX model and check everything about it that does not depend on its operators.

    ``source`` is a path, an encoded model, or a ``ModelProto``, which is left as it is. ``folder``
    holds its external data; a path's own folder is the default. Weights are mapped from the files,
    not copied, and stay valid for as long as an array of them lives.

    Raises :class:`CompileError`, or :class:`CompileErrors` for several faults:
    E0301 the file cannot be read; E0302 it is not an encoded model, or its text not UTF-8;
    E0303 versions of the format or of operator sets; E0304 a cap of ``limits``;
    E0305 names, order, cycles; E0306 types of values; E0307 shapes and data of tensors;
    E0308 external data; E0309 functions; E0310 attributes; E0311 sparse tensors.
    """
    data = read_source(source, Path(folder) if folder is not None else None, limits)
    stripped = strip(data.data, limits)
    return _convert(_parsed(stripped), data, stripped, limits)


def _parsed(stripped: Stripped) -> onnx.ModelProto:
    try:
        return onnx.ModelProto.FromString(stripped.encoded)
    except DecodeError as error:
        raise CompileError(
            "E0302",
            "this is not a whole ONNX model",
            (("protobuf says", error),),
            "check that the path names an .onnx file and that it was copied in full",
        ) from error


def _convert(
    proto: onnx.ModelProto, data: SourceBytes, stripped: Stripped, limits: Limits
) -> CheckedModel:
    findings = Findings()
    if not proto.HasField("graph"):
        raise CompileError(
            "E0302",
            "this is not a whole ONNX model: it has no graph",
            (("size", len(data.data)),),
            "check that the path names an .onnx file and that it was copied in full",
        )
    tensors = TensorReader(data, stripped.spans, ExternalFiles(data.folder), limits)
    convert = Converter(tensors, findings, limits)
    opsets = opset_versions(proto.opset_import, "the model", findings)
    graph = convert.graph(proto.graph, opsets)
    functions = _functions(proto.functions, convert, findings)
    model = CheckedModel(data.path, proto.ir_version, opsets, graph, functions)
    check_versions(model, findings)
    check_main_graph(graph, findings)
    for function in functions.values():
        check_function(function, findings)
    check_calls(model, limits, findings)
    findings.finish()
    return model


def _functions(
    protos: Iterable[onnx.FunctionProto], convert: Converter, findings: Findings
) -> dict[FunctionKey, Function]:
    found: dict[FunctionKey, Function] = {}
    for proto in protos:
        opsets = opset_versions(proto.opset_import, f"function {quoted(proto.name)}", findings)
        function = convert.function(proto, opsets)
        if function.key in found or not proto.name:
            findings.add(
                "E0309",
                f"{function.label} is defined twice, or has no name",
                fix="give each function its own name or overload; export the model again",
            )
        found[function.key] = function
    return found
