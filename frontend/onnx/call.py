"""One node as its rule sees it: typed access to attributes, refusals that name the node."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.view import Graph, Node, Tensor
from tapeout.ir.errors import CompileError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Call:
    """A node with typed attributes; every accessor raises E0310 when the type is another."""

    node: Node

    @property
    def version(self) -> int:
        """The operator set in force."""
        return self.node.version

    @property
    def outputs(self) -> int:
        """How many outputs the node lists, unwanted ones included."""
        return len(self.node.outputs)

    def wants(self, index: int) -> bool:
        """Whether output ``index`` is listed and named."""
        return index < self.outputs and bool(self.node.outputs[index])

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        return name in self.node.attrs

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return self._get(name, default, int)

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer attribute that is 0 or 1."""
        return bool(self.integer(name, int(default)))

    def real(self, name: str, default: float = 0.0) -> float:
        """A float attribute."""
        return float(self._get(name, default, (float, int)))

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        return self._get(name, default, str)

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """A list of integers."""
        return tuple(self._list(name, default, int))

    def reals(self, name: str, default: Sequence[float] = ()) -> tuple[float, ...]:
        """A list of floats."""
        return tuple(self._list(name, default, float))

    def texts(self, name: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(self._list(name, default, str))

    def tensor(self, name: str) -> Tensor:
        """A tensor attribute that must be there."""
        return self._required(name, Tensor)

    def graph(self, name: str) -> Graph:
        """A graph attribute that must be there."""
        return self._required(name, Graph)

    def refuse(self, why: str, *facts: tuple[str, object], fix: str = "") -> NoReturn:
        """Raise E0402: this use of the operator has no support."""
        raise CompileError("E0402", f"{self.node.label}: {why}", facts, fix)

    def invalid(self, why: str, *facts: tuple[str, object], fix: str = "") -> NoReturn:
        """Raise E0310: an attribute or input breaks the operator's definition."""
        raise CompileError(
            "E0310", f"{self.node.label}: {why}", facts, fix or "export the model again"
        )

    def _get(self, name: str, default: T, kind: type[Any] | tuple[type[Any], ...]) -> T:
        value: Any = self.node.attrs.get(name, default)
        if not isinstance(value, kind):
            self._mistyped(name, value)
        return value

    def _list(self, name: str, default: Sequence[T], kind: type[T]) -> Sequence[T]:
        if name not in self.node.attrs:
            return default
        value: Any = self.node.attrs[name]
        items = cast(tuple[Any, ...], value) if isinstance(value, tuple) else None
        if items is None or not all(isinstance(item, kind) for item in items):
            self._mistyped(name, cast(object, value))
        return items

    def _required(self, name: str, kind: type[T]) -> T:
        value = self.node.attrs.get(name)
        if not isinstance(value, kind):
            self._mistyped(name, value)
        return value

    def _mistyped(self, name: str, value: object) -> NoReturn:
        kind = "absent" if value is None else type(value).__name__
        self.invalid(f"attribute {quoted(name)} is missing or of a wrong type", ("it is", kind))
