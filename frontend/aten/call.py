"""One node of an exported graph as its rule sees it: what comes out, refusals that name it."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import fx

from tapeout.frontend.aten.element_types import element_type
from tapeout.frontend.aten.sizes import Sizes
from tapeout.ir.dtypes import DType
from tapeout.ir.errors import CompileError
from tapeout.ir.types import Spec


@dataclass(frozen=True, eq=False)
class Call:
    """A node that calls an operator."""

    node: fx.Node
    sizes: Sizes

    @property
    def name(self) -> str:
        """``aten.add.Tensor``."""
        return operator_name(self.node)

    @property
    def operator(self) -> str:
        """``add``."""
        return self.name.split(".")[1]

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """Shapes and element types of the results, as torch found them."""
        value = self.node.meta["val"]
        values = value if isinstance(value, list | tuple) else (value,)
        return tuple(self._spec(v) for v in values if isinstance(v, torch.Tensor))

    @property
    def output(self) -> Spec:
        """The first, or only, result."""
        return self.outputs[0]

    @property
    def dtype(self) -> DType:
        """Element type of the first result."""
        return self.output.dtype

    def promoted(self, *positions: int) -> DType:
        """The element type that torch computes arguments in, those at ``positions``."""
        values = [_meta(self.node.args[p]) for p in positions]
        dtype = values[0].dtype if isinstance(values[0], torch.Tensor) else None
        for value in values[1:]:
            dtype = torch.result_type(values[0], value)
        assert dtype is not None, "a tensor is among the arguments"
        return element_type(dtype)

    def refuse(self, what: str, *facts: tuple[str, object], fix: str = "") -> NoReturn:
        """E0402: this use of the operator has no support."""
        raise CompileError("E0402", f"{self.name}: {what}", facts, fix)

    def _spec(self, value: torch.Tensor) -> Spec:
        return Spec(self.sizes.dims(value.shape), element_type(value.dtype))


def operator_name(node: fx.Node) -> str:
    """``aten.add.Tensor``; the function's name where it is no operator of torch."""
    if isinstance(node.target, torch._ops.OpOverload):
        space, _, name = node.target._schema.name.partition("::")
        return f"{space}.{name}.{node.target._overloadname}"
    return str(getattr(node.target, "__name__", node.target))


def place(node: fx.Node) -> str:
    """Where the user's model calls the operator: the innermost line of its own code."""
    trace = str(node.meta.get("stack_trace") or "")
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    at = [i for i, line in enumerate(lines) if line.startswith("File ")]
    if not at:
        return node.name
    code = lines[at[-1] + 1] if at[-1] + 1 < len(lines) else ""
    return f"{lines[at[-1]].removeprefix('File ')}: {code}".rstrip(": ")


def _meta(argument: Any) -> Any:
    return argument.meta["val"] if isinstance(argument, fx.Node) else argument
