"""The base of every ``nn`` operator: one class holds its signature, meaning and cost.

An operator class declares xDSL operands, properties and results, and three static methods with
one calling convention, operands by position and properties by name, in native Python values:

* ``infer(*specs, **attrs) -> Spec | tuple[Spec, ...]``  shapes and element types of the results
* ``reference(*arrays, **attrs) -> array(s)``            the meaning, in numpy
* ``cost(*specs, **attrs) -> Expr``                      floating-point operations

A variadic operand arrives as a tuple, an absent optional one as None. Symbolic expressions in
properties reach ``infer`` as they are and ``reference`` as integers.

``DECIDES`` names the properties that hold one bare symbol each whose value this operator's data
decides: ``reference`` gets None for them, and the symbol takes the size of the result.

``decompose(builder)`` inserts simpler operators at the builder's place and returns one value
per result, which mean the same up to rounding; None where there is no simpler form. It changes
nothing else: whoever asked replaces the results and erases the operator.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import Attribute, Data, SSAValue
from xdsl.irdl import IRDLOperation, OptPropertyDef
from xdsl.irdl.constraints import BaseAttr
from xdsl.utils.exceptions import VerifyException

from tapeout.ir.expr import Expr
from tapeout.ir.types import Constant, Spec, TensorType, spec

Array = np.ndarray[Any, Any]
Operand = SSAValue | Sequence[SSAValue] | None


class NNOp(IRDLOperation, ABC):
    """One coarse tensor operator; see the module for the convention that it follows."""

    DECIDES: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        # Each operator has its own signature, which a typed base method would forbid.
        infer: Any
        reference: Any
        cost: Any
    else:

        @staticmethod
        def cost(*specs, **attrs):
            """Floating-point operations; 0 for operators that only move data."""
            return 0

    def decompose(self, builder: Builder) -> Sequence[SSAValue] | None:
        """Simpler operators for this one; see the module for the contract."""
        return None

    def bytes_read(self, operand: int) -> Expr:
        """Bytes of one operand that one run reads: all, where an operator does not say better."""
        return spec(self.operands[operand]).bytes

    @classmethod
    def make(cls, *operands: Operand, **attrs: Any) -> Self:
        """Build the operator with inferred result types from SSA values and Python values.

        Attributes left out take their declared default. Raises CompileError from ``infer``.
        """
        properties = {
            name: value
            if isinstance(value, Attribute)
            else attribute_class(cls, name)(_wrap(value))
            for name, value in attrs.items()
            if value is not None
        }
        unknown, required = set(attrs) - _property_names(cls), _required(cls) - set(properties)
        assert not unknown, f"{cls.name} has no {sorted(unknown)}"
        assert not required, f"{cls.name} needs {sorted(required)}"
        given = [_specs(operand) for operand in operands]
        native = defaults(cls) | {n: _unwrap(a) for n, a in properties.items()}
        results = as_tuple(cls.infer(*given, **native))
        return cls.build(
            operands=list(operands),
            properties=properties,
            result_types=[TensorType(r) for r in results],
        )

    def attrs(self) -> dict[str, Any]:
        """Property values as Python values, defaults included."""
        own = {
            n: _unwrap(a) for n, a in self.properties.items() if n in _property_names(type(self))
        }
        return defaults(type(self)) | own

    def arguments(self) -> list[Operand]:
        """Operands as the definition groups them: one, a tuple, or None."""
        definition = type(self).get_irdl_definition()
        return [getattr(self, name) for name, _ in definition.operands]

    def specs(self) -> list[Any]:
        """What ``infer`` and ``cost`` take by position."""
        return [_specs(argument) for argument in self.arguments()]

    def inferred(self) -> tuple[Spec, ...]:
        """Result specs computed anew from operands and properties."""
        return as_tuple(type(self).infer(*self.specs(), **self.attrs()))

    def flops(self) -> Expr | int:
        """:meth:`cost` of this very operator."""
        return type(self).cost(*self.specs(), **self.attrs())

    def verify_(self) -> None:
        """Result types must be what ``infer`` says."""
        want = tuple(TensorType(s) for s in self.inferred())
        have = tuple(r.type for r in self.results)
        if want != have:
            raise VerifyException(f"{self.name} infers {_text(want)} but has {_text(have)}")


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Wrap one result; a tuple passes through."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)


@cache
def attribute_class(cls: type[NNOp], name: str) -> type[Data[Any]]:
    """The attribute class that the definition of ``cls`` declares for a property."""
    definition = cls.get_irdl_definition().properties
    assert name in definition, f"{cls.name} has no attribute {name!r}: {sorted(definition)}"
    constraint = definition[name].constr
    assert isinstance(constraint, BaseAttr), f"{cls.name}.{name} needs one attribute class"
    found = cast("BaseAttr[Data[Any]]", constraint).attr
    assert issubclass(found, Data), f"{cls.name}.{name} holds no Python value"
    return found


@cache
def _property_names(cls: type[NNOp]) -> frozenset[str]:
    return frozenset(cls.get_irdl_definition().properties) - {"operandSegmentSizes"}


@cache
def defaults(cls: type[NNOp]) -> dict[str, Any]:
    """Declared default of every property in Python values; None where there is none."""
    found: dict[str, Any] = {}
    definitions = cls.get_irdl_definition().properties
    # In the order of the definition: a set's order would change from run to run.
    for name in (n for n in definitions if n in _property_names(cls)):
        default = definitions[name].default_value
        found[name] = None if default is None else _unwrap(default)
    return found


@cache
def _required(cls: type[NNOp]) -> frozenset[str]:
    definitions = cls.get_irdl_definition().properties
    return frozenset(
        name
        for name in _property_names(cls)
        if definitions[name].default_value is None
        and not isinstance(definitions[name], OptPropertyDef)
    )


def _specs(operand: Any) -> Any:
    if operand is None:
        return None
    if isinstance(operand, SSAValue):
        return spec(operand)
    return tuple(spec(v) for v in operand)


def _wrap(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Constant(cast(Array, value))
    if isinstance(value, np.generic):
        return cast(Any, value).item()
    if isinstance(value, list | tuple):
        return tuple(_wrap(v) for v in cast("Sequence[Any]", value))
    return value


def _unwrap(attribute: Any) -> Any:
    data = attribute.data
    return data.array if isinstance(data, Constant) else data


def _text(types: Sequence[Attribute]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"


def bind(values: Mapping[str, int], attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate every symbolic expression in ``attrs`` under symbol values."""

    def number(value: Any) -> Any:
        if isinstance(value, Expr):
            return value.evaluate(values)
        if isinstance(value, tuple):
            return tuple(number(v) for v in cast("tuple[Any, ...]", value))
        return value

    return {name: number(value) for name, value in attrs.items()}
