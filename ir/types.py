"""The ``nn`` tensor type and the attributes that operators carry.

A tensor type is a shape of expressions and an element type, printed
``!nn.tensor<"B, S, 384", f32, "B=1..8 S=1..512">``; the last string holds the ranges of symbols
and is left out when there are none. Attributes wrap one Python value each, in ``.data``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import Data, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from tapeout.ir.dtypes import DTYPES, DType, dtype_of
from tapeout.ir.expr import Expr, ExprLike, as_expr, product
from tapeout.ir.expr_text import parse_exprs, parse_ranges, ranges_text


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and element type of a tensor; what ``infer`` takes and returns."""

    dims: tuple[Expr, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.dims)

    @property
    def size(self) -> Expr:
        """The number of elements."""
        return product(self.dims)

    @property
    def bytes(self) -> Expr:
        """The bytes of a dense row-major buffer."""
        return self.size * self.dtype.bytes

    def with_dims(self, dims: Iterable[ExprLike]) -> Spec:
        """The same element type in another shape."""
        return Spec(tuple(map(as_expr, dims)), self.dtype)

    def with_dtype(self, dtype: DType) -> Spec:
        """The same shape of another element type."""
        return Spec(self.dims, dtype)


@irdl_attr_definition
class TensorType(Data[Spec], TypeAttribute):
    """A dense tensor; see the module for its text form."""

    name = "nn.tensor"

    @classmethod
    def of(cls, dims: Iterable[ExprLike], dtype: DType) -> TensorType:
        """Build from dimensions and an element type."""
        return cls(Spec(tuple(map(as_expr, dims)), dtype))

    @property
    def dims(self) -> tuple[Expr, ...]:
        """The dimensions."""
        return self.data.dims

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.data.dtype

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<"dims", dtype, "ranges">``."""
        ranges = ranges_text(self.dims)
        printer.print_string(f'<"{", ".join(map(str, self.dims))}", {self.dtype}')
        printer.print_string(f', "{ranges}">' if ranges else ">")

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Spec:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            dims = parser.parse_str_literal()
            parser.parse_punctuation(",")
            dtype = DTYPES[parser.parse_identifier()]
            ranges = parser.parse_str_literal() if parser.parse_optional_punctuation(",") else ""
        return Spec(parse_exprs(dims, parse_ranges(ranges)), dtype)


class _Literal(Data[Any]):
    """One Python value, or a tuple of them, as literals in angle brackets."""

    @classmethod
    def parse_one(cls, parser: AttrParser) -> Any:
        """Parse one literal."""
        raise NotImplementedError

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Any:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            return cls.parse_one(parser)

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<literal>``."""
        with printer.in_angle_brackets():
            _print_literal(printer, self.data)


class _Literals(_Literal):
    """A tuple of literals."""

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Any, ...]:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            return tuple(
                parser.parse_comma_separated_list(
                    parser.Delimiter.SQUARE, lambda: cls.parse_one(parser)
                )
            )

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<[literal, ...]>``."""
        with printer.in_angle_brackets(), printer.in_square_brackets():
            printer.print_list(self.data, lambda value: _print_literal(printer, value))


def _print_literal(printer: Printer, value: Any) -> None:
    if isinstance(value, str):
        # Names come from model files: all that is not plain ASCII travels escaped.
        printer.print_string_literal(value.encode("unicode_escape").decode("ascii"))
    elif isinstance(value, float) and not math.isfinite(value):
        printer.print_string_literal(str(value))
    else:
        # A float literal of this text format has a point: 1e-05 is none, 1.0e-05 is one.
        text = json.dumps(value)
        printer.print_string(
            text if "." in text else text.replace("e-", ".0e-").replace("e+", ".0e+")
        )


def _parse_name(parser: AttrParser) -> str:
    return parser.parse_str_literal().encode("ascii").decode("unicode_escape")


def _parse_float(parser: AttrParser) -> float:
    text = parser.parse_optional_str_literal()
    return float(parser.parse_number() if text is None else text)


@irdl_attr_definition
class IntAttr(_Literal):
    """One integer: an axis, a group count."""

    name = "nn.int"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> int:
        """Parse an integer."""
        return parser.parse_integer()


@irdl_attr_definition
class FloatAttr(_Literal):
    """One float: an epsilon, a scale."""

    name = "nn.float"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> float:
        """Parse a number, or ``"inf"``, ``"-inf"`` or ``"nan"``."""
        return _parse_float(parser)


@irdl_attr_definition
class FlagAttr(_Literal):
    """One truth value."""

    name = "nn.flag"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> bool:
        """Parse ``true`` or ``false``."""
        return parser.parse_boolean()


@irdl_attr_definition
class StrAttr(_Literal):
    """One name: a scalar function, a mode."""

    name = "nn.str"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> str:
        """Parse a string literal."""
        return _parse_name(parser)


@irdl_attr_definition
class IntsAttr(_Literals):
    """A tuple of integers: a permutation, strides."""

    name = "nn.ints"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> int:
        """Parse an integer."""
        return parser.parse_integer()


@irdl_attr_definition
class FloatsAttr(_Literals):
    """A tuple of floats: scales per axis, constants of activations."""

    name = "nn.floats"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> float:
        """Parse as :class:`FloatAttr` does."""
        return _parse_float(parser)


@irdl_attr_definition
class StrsAttr(_Literals):
    """A tuple of names."""

    name = "nn.strs"

    @classmethod
    def parse_one(cls, parser: AttrParser) -> str:
        """Parse a string literal."""
        return _parse_name(parser)


@irdl_attr_definition
class DTypeAttr(Data[DType]):
    """An element type."""

    name = "nn.dtype"

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<f32>``."""
        printer.print_string(f"<{self.data}>")

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> DType:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            return DTYPES[parser.parse_identifier()]


@irdl_attr_definition
class ExprsAttr(Data[tuple[Expr, ...]]):
    """A tuple of expressions: a target shape, slice bounds."""

    name = "nn.exprs"

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<"exprs", "ranges">``."""
        ranges = ranges_text(self.data)
        printer.print_string(f'<"{", ".join(map(str, self.data))}"')
        printer.print_string(f', "{ranges}">' if ranges else ">")

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Expr, ...]:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            text = parser.parse_str_literal()
            ranges = parser.parse_str_literal() if parser.parse_optional_punctuation(",") else ""
        return parse_exprs(text, parse_ranges(ranges))


class Constant:
    """An immutable numpy array that hashes and compares by its bytes."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = np.ascontiguousarray(array).reshape(array.shape)
        self.array.setflags(write=False)

    def _key(self) -> tuple[object, ...]:
        return self.array.shape, self.array.dtype.str, self.array.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@irdl_attr_definition
class ArrayAttr(Data[Constant]):
    """A small literal array, printed as element type, shape and values."""

    name = "nn.array"

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<dtype, "dims", "values">``; the shortest decimals that read back the same."""
        array = self.data.array
        dtype = dtype_of(array)
        as_python = _python_type(dtype)
        dims = ", ".join(map(str, array.shape))
        values = ", ".join(repr(as_python(v)).strip("()") for v in array.reshape(-1))
        printer.print_string(f'<{dtype}, "{dims}", "{values}">')

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Constant:
        """Parse what :meth:`print_parameter` prints."""
        with parser.in_angle_brackets():
            dtype = DTYPES[parser.parse_identifier()]
            parser.parse_punctuation(",")
            dims = parser.parse_str_literal()
            parser.parse_punctuation(",")
            values = [v for v in parser.parse_str_literal().split(", ") if v]
        shape = tuple(map(int, parse_exprs(dims)))
        as_python = _python_type(dtype)
        carrier = {"uint": np.uint64, "float": np.float64, "complex": np.complex128}
        numbers = np.array([as_python(v) for v in values], carrier.get(dtype.kind, np.int64))
        return Constant(numbers.astype(dtype.numpy).reshape(shape))


def _python_type(dtype: DType) -> Callable[[Any], Any]:
    assert dtype.kind != "string", "strings are no literals"
    types: dict[str, Callable[[Any], Any]] = {"float": float, "complex": complex}
    return types.get(dtype.kind, int)


def specs(values: Sequence[Any]) -> tuple[Spec, ...]:
    """The specs of SSA values that all have a tensor type."""
    return tuple(spec(v) for v in values)


def spec(value: Any) -> Spec:
    """The spec of one SSA value; asserts that it has a tensor type."""
    assert isinstance(value.type, TensorType), f"{value.type} is not a tensor type"
    return value.type.data
