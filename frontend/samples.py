"""One sample of a data set against the inputs of a module: names, element types, shapes, values."""

from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np

from tapeout.ir.dtypes import DType
from tapeout.ir.errors import CompileError, together
from tapeout.ir.expr import Expr, Symbol, as_symbol
from tapeout.ir.shapes import shape_text
from tapeout.ir.types import Spec
from tapeout.runtime.dtypes import FOREIGN, numpy_dtypes

Array = np.ndarray[Any, Any]


def check_sample(where: str, sample: object, inputs: Mapping[str, Spec]) -> dict[str, Array]:
    """The arrays of a sample, in the order and with the element types of ``inputs``.

    Errors, all that one look finds: E0108, E0109, E0203, E0208.
    """
    if not isinstance(sample, Mapping):
        what = f"a sample is a {type(sample).__name__}, no mapping from names to arrays"
        raise CompileError("E0108", what, [("where", where)], f"give {_example(inputs)}")
    given = cast("Mapping[str, Any]", sample)
    check_names(where, given, inputs)
    arrays: dict[str, Array] = {name: np.asarray(given[name]) for name in inputs}
    typed = {name: _as_type(arrays[name], want.dtype) for name, want in inputs.items()}
    errors = [
        *(
            _type_differs(where, name, inputs[name].dtype, arrays[name])
            for name, array in typed.items()
            if array is None
        ),
        *_shape_errors(where, {n: a.shape for n, a in arrays.items()}, inputs),
        *(
            _not_finite(where, name, array)
            for name, array in typed.items()
            if array is not None and inputs[name].dtype.is_float and not np.isfinite(array).all()
        ),
    ]
    if errors:
        raise together(errors, "a sample does not fit the model's inputs")
    return {name: array for name, array in typed.items() if array is not None}


def check_names(where: str, names: Collection[str], inputs: Collection[str]) -> None:
    """E0108 when inputs are missing, or there are names that are none."""
    missing = [name for name in inputs if name not in names]
    unknown = [name for name in names if name not in inputs]
    if missing or unknown:
        raise CompileError(
            "E0108",
            "the names of a sample are not those of the model's inputs",
            [
                ("where", where),
                *([("missing", ", ".join(missing))] if missing else []),
                *([("unknown", ", ".join(map(str, unknown)))] if unknown else []),
                ("inputs", ", ".join(inputs) or "none"),
            ],
            "name each array as the input that it is for",
        )


def shape_misfit(
    where: str, name: str, want: Spec, have: tuple[int, ...], fix: str = ""
) -> CompileError:
    """E0208: the shape of an array is not one that its input takes."""
    facts = [("where", where), ("input", f"{name}{shape_text(want.dims)}"), ("given", list(have))]
    ranges = ", ".join(map(_range_text, _symbols(want)))
    facts += [("sizes", ranges)] if ranges else []
    return CompileError("E0208", "a sample has another shape than its input", facts, fix)


def _example(inputs: Mapping[str, Spec]) -> str:
    return "{" + ", ".join(f"'{name}': array" for name in inputs) + "}"


def _as_type(array: Array, want: DType) -> Array | None:
    """The array if its elements are of the type; files and users may hold the bits alone."""
    if array.dtype == want.numpy:
        return array
    # How ``numpy.savez`` keeps a type that is not its own.
    bits = array.dtype.type is np.void and array.dtype.itemsize == want.numpy.itemsize
    if want.name in FOREIGN and (bits or array.dtype in numpy_dtypes(want.name)):
        return array.view(want.numpy)
    return None


def _type_differs(where: str, name: str, want: DType, array: Array) -> CompileError:
    return CompileError(
        "E0203",
        "a sample has another element type than its input",
        [("where", where), ("input", f"{name}: {want}"), ("given", array.dtype)],
        f"convert it: array.astype('{want.numpy}')",
    )


def _shape_errors(
    where: str, shapes: Mapping[str, tuple[int, ...]], inputs: Mapping[str, Spec]
) -> list[CompileError]:
    bound: dict[str, int] = {}
    for name, want in inputs.items():
        # Where the axes do not even count the same, a size says nothing about a symbol.
        pairs = zip(want.dims, shapes[name], strict=True) if _same_rank(want, shapes[name]) else ()
        for dim, size in pairs:
            known = as_symbol(dim)
            if known is not None:
                bound.setdefault(known.name, size)
    return [
        shape_misfit(where, name, want, shapes[name], _fix(want, shapes[name], bound))
        for name, want in inputs.items()
        if not _fits(want, shapes[name], bound)
    ]


def _fits(want: Spec, shape: tuple[int, ...], bound: Mapping[str, int]) -> bool:
    return _same_rank(want, shape) and all(
        _size_fits(dim, size, bound) for dim, size in zip(want.dims, shape, strict=True)
    )


def _same_rank(want: Spec, shape: tuple[int, ...]) -> bool:
    return len(shape) == want.rank


def _size_fits(dim: Expr, size: int, bound: Mapping[str, int]) -> bool:
    known = {symbol.name for symbol in dim.symbols()} <= bound.keys()
    return (not known or dim.evaluate(bound) == size) and all(
        _in_range(symbol, bound) for symbol in dim.symbols() if symbol.name in bound
    )


def _in_range(symbol: Symbol, bound: Mapping[str, int]) -> bool:
    high = symbol.hi
    if isinstance(high, Expr):
        high = high.evaluate(bound) if {s.name for s in high.symbols()} <= bound.keys() else None
    return symbol.lo <= bound[symbol.name] and (high is None or bound[symbol.name] <= high)


def _fix(want: Spec, shape: tuple[int, ...], bound: Mapping[str, int]) -> str:
    if not _same_rank(want, shape):
        return f"give an array of {want.rank} axes"
    names = {s.name for d in want.dims for s in d.symbols()} & bound.keys()
    others = ", ".join(f"{name} is {bound[name]}" for name in sorted(names))
    return f"in this sample {others}: give sizes that agree and are in range" if others else ""


def _symbols(want: Spec) -> list[Symbol]:
    return list(dict.fromkeys(s for dim in want.dims for s in sorted(dim.symbols(), key=_name)))


def _name(symbol: Symbol) -> str:
    return symbol.name


def _range_text(symbol: Symbol) -> str:
    return f"{symbol.name} from {symbol.lo} to {'any' if symbol.hi is None else symbol.hi}"


def _not_finite(where: str, name: str, array: Array) -> CompileError:
    wrong = np.argwhere(~np.isfinite(array))
    first = tuple(wrong[0].tolist())
    return CompileError(
        "E0109",
        f"a sample has values that are not finite in input '{name}'",
        [
            ("where", where),
            ("values", f"{len(wrong)} of {array.size}, the first {array[first]} at {first}"),
        ],
        "leave the sample out, or mend what made its data",
    )
