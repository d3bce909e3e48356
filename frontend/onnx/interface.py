"""The entry's side of a model: its inputs as types with symbols, its outputs as named tensors."""

from collections.abc import Sequence

from tapeout.frontend.onnx.caps import check_sizes
from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.known import NotKnown
from tapeout.frontend.onnx.symbols import Symbols
from tapeout.frontend.onnx.value import AnyValue, Items, Slices, Value
from tapeout.frontend.onnx.view import CheckedModel, TensorType, ValueInfo
from tapeout.ir.dtypes import DTYPES, DType
from tapeout.ir.errors import CompileError
from tapeout.ir.types import Spec

_BY_NUMPY = {t.numpy: t for t in DTYPES.values()}


def entry_inputs(model: CheckedModel, symbols: Symbols) -> list[tuple[str, Spec]]:
    """Names and types of the inputs; one with an initializer is a weight, not an input.

    Raises E0402 for an input that is no tensor, is of strings, or has an unknown rank.
    """
    wanted = [i for i in model.graph.inputs if i.name not in model.graph.initializers]
    return [(info.name, _input_spec(info, symbols)) for info in wanted]


def flat_outputs(infos: Sequence[ValueInfo], values: Sequence[AnyValue]) -> list[tuple[str, Value]]:
    """Outputs as tensors by name; the items of a sequence ``y`` are ``y[0]``, ``y[1]``, ...

    Raises E0402 for an empty optional, strings and a sequence of open length, E0306 for a type
    other than declared.
    """
    flat: list[tuple[str, Value]] = []
    for info, value in zip(infos, values, strict=True):
        name = info.name
        if isinstance(value, Value):
            _check_declared(info, value)
            flat.append((name, value))
        elif isinstance(value, Items):
            flat += [(f"{name}[{i}]", item) for i, item in enumerate(value.values)]
        elif isinstance(value, Slices):
            raise CompileError(
                "E0402",
                f"output {quoted(name)} is a sequence of open length",
                [("length", value.tensor.dims[0])],
                "return the items stacked as one tensor",
            )
        else:
            raise CompileError("E0402", f"output {quoted(name)} is an optional without a value")
    for name, value in flat:
        if value.dtype.kind == "string":
            raise CompileError("E0402", f"output {quoted(name)} holds strings")
    return flat


def _check_declared(info: ValueInfo, value: Value) -> None:
    """Only the element type: declared sizes are hints, and exporters get them wrong."""
    if isinstance(info.type, TensorType) and info.type.dtype != value.dtype.numpy:
        raise CompileError(
            "E0306",
            f"output {quoted(info.name)} is declared with another element type than it has",
            [("declared", info.type.dtype), ("found", value.dtype)],
            "export the model again",
        )


def element_type(dtype: object, owner: str) -> DType:
    """The element type for a numpy type; E0402 for one that is not carried."""
    found = next((t for n, t in _BY_NUMPY.items() if n == dtype), None)
    if found is None or found.kind == "string":
        raise CompileError(
            "E0402",
            f"{owner}: elements of type {dtype} have no support",
            fix="keep such values outside the model",
        )
    return found


def _input_spec(info: ValueInfo, symbols: Symbols) -> Spec:
    owner = f"input {quoted(info.name)}"
    kind = info.type
    if not isinstance(kind, TensorType):
        raise NotKnown(
            "E0406",
            f"{owner} is a {type(kind).__name__.removesuffix('Type').lower()}, not a tensor",
            fix="give its items as tensors of their own",
            inputs=(info.name,),
        )
    if kind.shape is None:
        raise CompileError(
            "E0402",
            f"{owner} has an unknown number of dimensions",
            fix="export the model with the input's rank",
        )
    made = Spec(tuple(symbols.of(d) for d in kind.shape), element_type(kind.dtype, owner))
    check_sizes(owner, [made])
    return made
