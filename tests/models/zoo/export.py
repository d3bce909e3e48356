"""From a torch module to ``model.onnx``: one way for every family."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .recipe import Made, Range

OPSET = 20
"""The opset that ``torch.onnx.export(dynamo=True)`` of torch 2.13 writes when it is not told."""

SMALL_BYTES = 4_000_000
"""Weights up to this size stay inside ``model.onnx``; larger ones go to ``model.onnx.data``."""


def export(
    module: torch.nn.Module,
    folder: Path,
    inputs: Mapping[str, torch.Tensor],
    outputs: list[str],
    *,
    dims: Mapping[str, Range] | None = None,
    axes: tuple[str, ...] = (),
    sample: Mapping[str, torch.Tensor] | None = None,
) -> Made:
    """Export ``module(**inputs)`` and return its sample inputs and its work.

    ``axes`` names the leading axes of every input that are symbolic, with their ranges in
    ``dims``. The exporter specialises a dimension of size 1, so ``inputs`` must then have others;
    ``sample`` is what is kept as the sample in that case.
    """
    module.eval()
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    with warnings.catch_warnings(), torch.no_grad():
        # Deprecations inside torch's exporter, and its remarks that two inputs share a dimension.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # "torchvision is not installed"
        torch.onnx.export(
            module,
            (),
            str(folder / "model.onnx"),
            kwargs=dict(inputs),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=_symbolic(inputs, axes, dims or {}),
            opset_version=OPSET,
            dynamo=True,
            external_data=size > SMALL_BYTES,
            verbose=False,
        )
    kept = dict(sample or inputs)
    return Made({name: value.numpy() for name, value in kept.items()}, work(module, kept))


def work(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> int:
    """Count the flop of the products and convolutions in one call (two per multiply-add)."""
    # The counter does not know the CPU's fused attention; its plain form is two products.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**inputs)
    return counter.get_total_flops()


def finite(value: torch.Tensor) -> np.ndarray:
    """Return ``value`` as an array, refusing weights that drive activations out of range."""
    assert bool(torch.isfinite(value).all()), "the recipe's weights overflow"
    return value.detach().numpy()


def _symbolic(
    inputs: Mapping[str, torch.Tensor], axes: tuple[str, ...], dims: Mapping[str, Range]
) -> dict[str, dict[int, torch.export.Dim]] | None:
    if not axes:
        return None
    named = {i: torch.export.Dim(n, min=dims[n][0], max=dims[n][1]) for i, n in enumerate(axes)}
    return {name: named for name in inputs}
