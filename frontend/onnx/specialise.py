"""A model made ready for one kind of call: inputs fixed as constants, containers taken apart.

The compiler takes tensors whose shapes have symbols. Some operators need more at compile time
(the axes of a reduction, the length of a sequence). These functions write that into a copy of the
model; everything else stays an input of the compiled program.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array: TypeAlias = np.ndarray[Any, Any]
Given: TypeAlias = "Array | Sequence[Array] | None"


def fix_inputs(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy in which the named inputs are constants."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kept = [i for i in made.graph.input if i.name not in arrays]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    made.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return made


def empty_axes(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> frozenset[tuple[str, int]]:
    """Axes of open size that are empty in a call, each as (input, axis).

    The compiler takes an open size to be 1 at least: 0 has to be asked for.
    """
    return frozenset(
        (info.name, i)
        for info in model.graph.input
        for i, dim in enumerate(_dims(info))
        if not dim.HasField("dim_value") and 0 in np.shape(arrays.get(info.name, 1))[i : i + 1]
    )


def fix_empty(model: onnx.ModelProto, axes: frozenset[tuple[str, int]]) -> onnx.ModelProto:
    """A copy in which these axes, and all of their names, have the size 0."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    dims = {(v.name, i): d for v in made.graph.input for i, d in enumerate(_dims(v))}
    names = {dims[axis].dim_param for axis in axes} - {""}
    for axis, dim in dims.items():
        if axis in axes or dim.dim_param in names:
            dim.dim_value = 0
    return made


def _dims(info: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    return list(info.type.tensor_type.shape.dim)


def open_containers(model: onnx.ModelProto, given: Mapping[str, Given]) -> onnx.ModelProto:
    """A copy whose sequence and optional inputs are tensors: ``s`` of two becomes ``s[0], s[1]``.

    The inputs have the numbers of items, and are absent, as in ``given``.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    inputs, nodes = list(made.graph.input), list(made.graph.node)
    del made.graph.input[:], made.graph.node[:]
    for info in inputs:
        if info.type.HasField("tensor_type"):
            made.graph.input.append(info)
            continue
        value = given[info.name]
        made.graph.input.extend(_tensor_inputs(info, value))
        made.graph.node.extend(_container(info, value))
    made.graph.node.extend(nodes)
    return made


def opened(given: Mapping[str, Given]) -> dict[str, Array]:
    """The arrays of a call under the input names of :func:`open_containers`."""
    flat: dict[str, Array] = {}
    for name, value in given.items():
        if isinstance(value, np.ndarray | np.generic):
            flat[name] = np.asarray(value)
        elif value is not None:
            flat |= {f"{name}[{i}]": np.asarray(item) for i, item in enumerate(value)}
    return flat


def container_key(given: Mapping[str, Given]) -> tuple[object, ...]:
    """What of a call's inputs decides the form of :func:`open_containers`."""
    return tuple(
        (name, None if value is None else tuple(np.shape(item) for item in value))
        for name, value in sorted(given.items())
        if not isinstance(value, np.ndarray | np.generic)
    )


def _container(info: onnx.ValueInfoProto, value: Given) -> list[onnx.NodeProto]:
    """What makes the container of its items; an optional with a tensor is that tensor."""
    kind = info.type
    if value is None:
        nothing = kind.optional_type.elem_type
        return [helper.make_node("Optional", [], [info.name], type=nothing)]
    if isinstance(value, np.ndarray):
        return []
    if not len(value):
        dtype = _element(kind).tensor_type.elem_type
        return [helper.make_node("SequenceEmpty", [], [info.name], dtype=dtype)]
    names = [f"{info.name}[{i}]" for i in range(len(value))]
    return [helper.make_node("SequenceConstruct", names, [info.name])]


def _tensor_inputs(info: onnx.ValueInfoProto, value: Given) -> list[onnx.ValueInfoProto]:
    element = _element(info.type).tensor_type.elem_type
    shapes = {name: list(array.shape) for name, array in opened({info.name: value}).items()}
    return [helper.make_tensor_value_info(n, element, shape) for n, shape in shapes.items()]


def _element(kind: onnx.TypeProto) -> onnx.TypeProto:
    """The tensor type inside sequences and optionals."""
    while not kind.HasField("tensor_type"):
        which = kind.WhichOneof("value")
        assert which in ("sequence_type", "optional_type"), f"an input of kind {which}"
        kind = getattr(kind, which).elem_type
    return kind
