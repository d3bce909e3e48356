"""From a torch module or a ``.pt2`` file to a program in the operators that rules know."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from tapeout.ir.errors import CompileError

WHOLE = (
    *("linear", "matmul", "conv1d", "conv2d", "conv3d", "convolution"),
    *("scaled_dot_product_attention", "layer_norm", "native_layer_norm", "rms_norm"),
    *("group_norm", "native_group_norm", "batch_norm", "_native_batch_norm_legit_no_training"),
    *("instance_norm", "softmax", "_softmax", "log_softmax", "_log_softmax", "embedding"),
    *("gelu", "silu", "mish", "softplus", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu"),
    *("elu", "celu", "selu", "glu", "prelu", "upsample_nearest1d", "upsample_nearest2d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "avg_pool2d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "max_pool1d", "max_pool2d", "pixel_shuffle"),
    *("pixel_unshuffle", "lstm", "gru", "rnn_tanh", "rnn_relu", "grid_sampler_2d"),
)
"""Operators that stay as they are: taken apart they would have to be found again."""


@dataclass(frozen=True)
class Exported:
    """A program, and what the user calls its symbols: torch's name to the one of its ``Dim``.

    ``context``: how many tokens a language model is made for, where it limits that.
    """

    program: ExportedProgram
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    context: int | None = None


def exported(
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Exported:
    """Export a module with example inputs; E0311 with torch's own words where that fails."""
    try:
        with torch.no_grad(), _quietly():
            program = torch.export.export(
                module.eval(), tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes
            )
    except Exception as error:
        raise CompileError(
            "E0311",
            "torch.export does not take the module",
            [("torch", str(error).strip().split("\n\n")[0][:2000])],
            "mend what torch names; torch.export.export(...) alone says more",
        ) from error
    return Exported(program, _dim_names(program, module, args, kwargs or {}, dynamic_shapes))


def _dim_names(
    program: ExportedProgram,
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    dynamic_shapes: Any,
) -> dict[str, str]:
    """What the user's ``Dim`` objects are called, by the symbol that torch made of each.

    Of one that is computed from another (``2 * n``) the other is meant.
    """
    leaves = pytree.tree_leaves((tuple(args), dict(kwargs)))
    inputs = dict(zip(map(id, leaves), program.graph_signature.user_inputs, strict=False))
    sizes = {n.name: n.meta["val"].shape for n in program.graph.nodes if _is_tensor(n)}
    bound = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    if isinstance(dynamic_shapes, list | tuple):
        dynamic_shapes = dict(zip(bound, dynamic_shapes, strict=False))
    found: dict[str, str] = {}
    for path, leaf in pytree.tree_flatten_with_path(bound)[0]:
        shape, wanted = sizes.get(inputs.get(id(leaf)), ()), dynamic_shapes
        for key in path:
            wanted = wanted and key.get(wanted)
        axes = wanted.items() if isinstance(wanted, dict) else enumerate(wanted or ())
        for axis, dim in axes:
            if isinstance(dim, torch.export.Dim) and isinstance(shape[axis], torch.SymInt):
                symbols = shape[axis].node.expr.free_symbols
                if len(symbols) == 1:
                    found[str(*symbols)] = getattr(dim, "root", dim).__name__
    return found


def _is_tensor(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def loaded(path: str | os.PathLike[str]) -> Exported:
    """Read a ``.pt2`` file; E0301 for one that cannot be read.

    torch reads such a file with ``weights_only`` and rebuilds its graph by calling operators by
    name: take only files whose maker is trusted.
    """
    if not os.path.isfile(path):
        raise CompileError("E0301", "the model file does not exist", [("file", os.fspath(path))])
    try:
        return Exported(torch.export.load(os.fspath(path)))
    except Exception as error:
        raise CompileError(
            "E0301",
            "the file is no program of torch.export, or of another version of torch",
            [("file", os.fspath(path)), ("torch", str(error).strip()[:500])],
            f"save it with torch.export.save of torch {torch.__version__}",
        ) from error


@cache
def _table() -> dict[Any, Any]:
    """torch's own decompositions but for those of :data:`WHOLE`."""
    found: dict[Any, Any] = dict(torch.export.default_decompositions())
    return {op: body for op, body in found.items() if _bare_name(op) not in WHOLE}


def _bare_name(op: Any) -> str:
    """``add`` of ``aten::add.Tensor``."""
    return op._schema.name.partition("::")[2] if hasattr(op, "_schema") else ""


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program in core ATen, without in-place operators, those of :data:`WHOLE` kept."""
    try:
        with _quietly():
            return program.run_decompositions(dict(_table()))
    except Exception as error:
        raise CompileError(
            "E0311",
            "torch does not take the program apart into its core operators",
            [("torch", str(error).strip().split("\n\n")[0][:2000])],
            "mend what torch names; program.run_decompositions() alone says more",
        ) from error


@contextmanager
def _quietly() -> Generator[None]:
    """Without what torch says to itself: it warns of its own use of its own old names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
