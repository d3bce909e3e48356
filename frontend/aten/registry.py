"""Import rules: one function per ATen operator, found by walking the ``rules`` package.

The contract of a rule::

    @rule("aten.leaky_relu")
    def leaky_relu(b: Builder, call: Call, x: SSAValue, slope: float = 0.01) -> SSAValue:

* A name is an operator (``aten.add``, for all of its overloads) or one overload
  (``aten.add.Tensor``), which goes before.
* Arguments come by position in the order of torch's schema, those that only have names by name.
  An argument that the function does not take must have its default (E0402 else), but for those
  that mean nothing to a compiler: layout, device, pinned memory, memory format.
* Tensors are SSA values, symbolic integers expressions; lists are lists of these.
* The result is one value, or a tuple with one per output of the operator.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

Rule = Callable[..., Any]
F = TypeVar("F", bound=Rule)


def rule(*names: str) -> Callable[[F], F]:
    """Mark a function as the import rule of the named operators."""

    def mark(function: F) -> F:
        function.__dict__.setdefault("import_rules", []).extend(names)
        return function

    return mark


def find_rule(overload: str) -> Rule | None:
    """The rule for ``namespace.operator.overload``, or None."""
    return rules().get(overload) or rules().get(overload.rpartition(".")[0])


@cache
def rules() -> dict[str, Rule]:
    """Every rule by name; two for one name are an internal fault."""
    import tapeout.frontend.aten.rules as package

    found: dict[str, Rule] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            for name in getattr(value, "__dict__", {}).get("import_rules", ()):
                assert name not in found, f"two rules for {name}"
                found[name] = value
    return found


@dataclass(frozen=True)
class Signature:
    """What a rule takes: how many arguments by position (None: any number), and all names."""

    most: int | None
    names: frozenset[str]


@cache
def signature(function: Rule) -> Signature:
    """The signature of a rule, behind builder and call."""
    taken = list(inspect.signature(function).parameters.values())[2:]
    by_place = [p for p in taken if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    any_number = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in taken)
    return Signature(None if any_number else len(by_place), frozenset(p.name for p in taken))
