"""Import rules: one function per source operator, found by walking the ``rules`` package.

The contract of a rule::

    @rule("LeakyRelu")
    def leaky_relu(b: Builder, node: Call, x: Value) -> Value:

* Inputs come by position. One that the model may leave out has the default None; a variadic
  operator takes ``*xs``. Attributes come from ``node.integer("axis", 0)`` and the like.
* The result is one value, or a tuple with one per output (more than the node wants is fine).
* ``since`` is the first operator-set version that the function implements; of several functions
  for one name the latest that is not newer than the node is taken. Small differences between
  versions are ``if node.version >= 13`` inside one function.
* ``containers=True``: inputs and outputs may also be sequences (:class:`Items`, :class:`Slices`)
  and :class:`Nothing`.
* What the builder makes of known contents is known again, so a rule never folds by itself. A rule
  that must know an input asks ``b.ints(node, x, "axes")``, which refuses with E0405 otherwise.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.value import AnyValue

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """One import function for one operator name."""

    domain: str
    op_type: str
    since: int
    containers: bool
    function: Callable[..., AnyValue | tuple[AnyValue, ...]]

    def arguments(self, node: Call, given: Sequence[AnyValue | None]) -> list[AnyValue | None]:
        """``given`` padded for the function; E0310 when one is missing or there are too many."""
        required, most = _arity(self.function)
        if most is not None and len(given) > most:
            node.invalid("too many inputs", ("given", len(given)), ("allowed", most))
        missing = [i for i in range(required) if i >= len(given) or given[i] is None]
        if missing:
            node.invalid("an input is missing", ("input", missing[0]))
        return [*given, *[None] * max(0, (most or 0) - len(given))]


def rule(
    *names: str, since: int = 1, domain: str = "", containers: bool = False
) -> Callable[[F], F]:
    """Mark a function as the import rule of the named operators."""

    def mark(function: F) -> F:
        made = [Rule(domain, name, since, containers, function) for name in names]
        function.__dict__.setdefault("import_rules", []).extend(made)
        return function

    return mark


def find_rule(domain: str, op_type: str, version: int) -> Rule | None:
    """The rule for an operator at a version, or None."""
    fitting = [r for r in rules().get((domain, op_type), ()) if r.since <= version]
    return max(fitting, key=lambda r: r.since, default=None)


@cache
def rules() -> dict[tuple[str, str], tuple[Rule, ...]]:
    """Every rule by domain and name; two for one name and version are an internal fault."""
    import tapeout.frontend.onnx.rules as package

    found: dict[tuple[str, str], tuple[Rule, ...]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            for made in getattr(value, "__dict__", {}).get("import_rules", ()):
                key = (made.domain, made.op_type)
                others = found.get(key, ())
                assert made.since not in [o.since for o in others], f"two rules for {key}"
                found[key] = (*others, made)
    return found


@cache
def _arity(function: Callable[..., Any]) -> tuple[int, int | None]:
    """Inputs that must be given, and how many may be (None: any number)."""
    parameters = list(inspect.signature(function).parameters.values())[2:]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return 0, None
    return sum(p.default is inspect.Parameter.empty for p in parameters), len(parameters)
