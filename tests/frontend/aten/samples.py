"""Samples of torch's own operator tests: what they make, imported, against torch itself."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from tapeout.frontend.aten.element_types import array_of
from tapeout.frontend.aten.export import exported
from tapeout.frontend.aten.importer import import_program
from tapeout.ir.errors import CompileError, CompileErrors
from tapeout.ir.evaluator import evaluate

Array = np.ndarray[Any, Any]
Sample = tuple[Callable[..., Any], tuple[tuple[Any, ...], dict[str, Any]]]

TOLERANCES = {
    torch.bfloat16: (1.6e-2, 1e-2),
    torch.float16: (2e-3, 1e-3),
    torch.float64: (1e-7,) * 2,
}
"""Relative and absolute; others as f32: what functions of numpy and of torch differ by."""
F32 = (2e-5, 2e-5)


@dataclass(frozen=True)
class Outcome:
    """How one sample ended: ``passed``, ``refused`` with coded errors, or ``wrong``."""

    operator: str
    dtype: torch.dtype
    state: str
    reason: str = ""


class Applied(torch.nn.Module):
    """Operators applied to samples: tensors are inputs, all other arguments are fixed."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__()
        self.functions = [function for function, _ in samples]
        self.leaves, self.tree = pytree.tree_flatten([arguments for _, arguments in samples])
        self.at = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, torch.Tensor)]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the arguments, in order."""
        return [self.leaves[i].detach() for i in self.at]

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What each operator makes of its sample."""
        leaves = list(self.leaves)
        for i, tensor in zip(self.at, tensors, strict=True):
            leaves[i] = tensor
        arguments = pytree.tree_unflatten(leaves, self.tree)
        return [f(*a, **k) for f, (a, k) in zip(self.functions, arguments, strict=True)]


def operators() -> dict[str, Any]:
    """Every operator that torch has samples of, by name and variant."""
    return {op.formatted_name: op for op in op_db}


def samples(name: str, dtype: torch.dtype, limit: int) -> list[Sample]:
    """Up to ``limit`` samples of an operator, from all over torch's; none where it has no meaning
    for the element type."""
    op = operators()[name]
    if not op.supports_dtype(dtype, "cpu"):
        return []
    torch.manual_seed(0)
    np.random.seed(0)
    found = [*islice(op.sample_inputs("cpu", dtype), 16 * limit)]
    chosen = found[:: -(-len(found) // limit)] if found else []
    return [(op.op, ((s.input, *s.args), s.kwargs)) for s in chosen]


def outcomes(name: str, dtype: torch.dtype, limit: int) -> list[Outcome]:
    """The outcomes of an operator's samples.

    All are one program, since preparing any program takes half a second; where that one does not
    pass, each is a program of its own.
    """
    chosen = samples(name, dtype, limit)
    if not chosen or judged(Applied(chosen))[0] == "passed":
        return [Outcome(name, dtype, "passed")] * len(chosen)
    return [Outcome(name, dtype, *judged(Applied([sample]))) for sample in chosen]


def judged(module: Applied) -> tuple[str, str]:
    """Export, import and evaluate one module, beside torch."""
    tensors = module.tensors
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            wanted = module(*[t.clone() for t in tensors])
        except RuntimeError as error:
            return "refused", f"by torch: {error}"
        try:
            made = import_program(exported(module, tensors))
            made.ir.verify()
            names = next(made.entries()).inputs.data
            inputs = dict(zip(names, map(array_of, tensors), strict=True))
            found = list(evaluate(made, inputs).values())
        except CompileError as error:
            return "refused", _codes(error)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            return "wrong", f"{type(error).__name__}: {text}"
    leaves = [leaf for leaf in pytree.tree_leaves(wanted) if leaf is not None]
    unlike = differences(leaves, found)
    return ("wrong", unlike) if unlike else ("passed", "")


def differences(wanted: Sequence[Any], found: Sequence[Array]) -> str:
    """How results differ in number, shape, element type or values; empty where they do not."""
    if len(wanted) != len(found):
        return f"{len(found)} results for {len(wanted)}"
    return next((text for text in map(difference, wanted, found) if text), "")


def difference(wanted: Any, found: Array) -> str:
    """How one result differs: a tensor, or a number of any element type."""
    if not isinstance(wanted, torch.Tensor):
        wanted = torch.tensor(wanted)
        found = found.astype(array_of(wanted).dtype)
    want = array_of(wanted.resolve_conj().resolve_neg())
    if want.dtype != found.dtype or want.shape != found.shape:
        return f"{found.dtype}{list(found.shape)} for {want.dtype}{list(want.shape)}"
    relative, absolute = TOLERANCES.get(wanted.dtype, F32)
    if wanted.dtype.is_floating_point:
        want, found = want.astype(np.float64), found.astype(np.float64)
    near = np.isclose(found, want, relative, absolute, equal_nan=True)
    if near.all():
        return ""
    at = tuple(np.argwhere(~near)[0])
    return f"{(~near).sum()} of {near.size} values: {found[at]} for {want[at]} at {[*map(int, at)]}"


def _codes(error: CompileError) -> str:
    errors = error.errors if isinstance(error, CompileErrors) else [error]
    return "; ".join(f"{e.code} {e.what}" for e in errors)
