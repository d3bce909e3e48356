"""ResNet-50: bottleneck blocks of 1x1 and 3x3 convolutions with residual sums."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

from pathlib import Path
from typing import Any

import torch
from transformers import ResNetConfig, ResNetForImageClassification

from .export import export, finite
from .recipe import Made, Recipe
from .samples import photographs
from .weights import calibrate_batch_norms, randomise


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model."""
    torch.manual_seed(50)
    options: dict[str, Any] = {"num_labels": 1000}
    model = ResNetForImageClassification(ResNetConfig(**options))
    images = photographs()
    randomise(model, seed=51)
    calibrate_batch_norms(model, images, seed=52)
    finite(model(images).logits)
    return export(model, folder, {"pixel_values": images[:1]}, ["logits"])
