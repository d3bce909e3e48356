"""Random weights under which a wrong compiler shows: nothing is zero, one, or out of range."""

import torch
from torch import nn


def randomise(module: nn.Module, seed: int) -> None:
    """Move every vector parameter away from its initial 0 or 1.

    Fresh biases are 0 and fresh scales 1: a compiler that lost them would still look right.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                noise = torch.empty_like(parameter).uniform_(-0.3, 0.3, generator=generator)
                parameter.add_(noise)


def calibrate_batch_norms(module: nn.Module, images: torch.Tensor, seed: int) -> None:
    """Give every BatchNorm the statistics of ``images``, then disturb them.

    Statistics drawn freely would let activations grow or die over 50 layers; those of real
    images keep them in range, and the disturbance keeps the normalisation from being the identity.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average over the calls, of which there is one
        norm.reset_running_stats()
    module.train()
    with torch.no_grad():
        module(images)
    module.eval()
    generator = torch.Generator().manual_seed(seed)
    for norm in norms:
        _disturb(norm, generator)


def _disturb(norm: nn.BatchNorm2d, generator: torch.Generator) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "the norm keeps running statistics"
    assert variance is not None, "the norm keeps running statistics"
    shift = torch.empty_like(mean).uniform_(-0.2, 0.2, generator=generator)
    mean.add_(shift * variance.sqrt())
    variance.mul_(torch.empty_like(variance).uniform_(0.7, 1.4, generator=generator))
