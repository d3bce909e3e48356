"""Classes of models that the compiler declares it does not take, each with its reason."""

from collections.abc import Iterator

import onnx

_STRINGS = "strings are text for the host, not numbers for an accelerator"
_RANDOM = "random numbers are inputs of a program, so that a run can be repeated"
_OPERATORS = {
    "StringConcat": _STRINGS,
    "StringNormalizer": _STRINGS,
    "StringSplit": _STRINGS,
    "RegexFullMatch": _STRINGS,
    "ImageDecoder": "decoding compressed images belongs to the host",
    "Gradient": "gradients are built by a training framework, not by an inference compiler",
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
         "RandomUniformLike"),
        _RANDOM,
    ),
}  # fmt: skip

REFUSALS = {"E0407": _RANDOM}
"""Codes of refusals that declare such a class: what decides it are values, not operators."""


def opt_out(model: onnx.ModelProto) -> str | None:
    """The reason why a model belongs to a class that is not taken, or None."""
    for info in (*model.graph.input, *model.graph.output):
        if _holds_strings(info.type):
            return _STRINGS
    return next((_OPERATORS[op] for op in _operators(model.graph) if op in _OPERATORS), None)


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _operators(attribute.g)


def _holds_strings(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        return kind.tensor_type.elem_type == onnx.TensorProto.STRING
    if which in ("sequence_type", "optional_type"):
        return _holds_strings(getattr(kind, which).elem_type)
    return False
