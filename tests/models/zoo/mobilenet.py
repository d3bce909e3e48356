"""MobileNetV2: depthwise convolutions between 1x1 ones, ReLU6."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

from pathlib import Path
from typing import Any

import torch
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from .export import export, finite
from .recipe import Made, Recipe
from .samples import photographs
from .weights import calibrate_batch_norms, randomise


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model."""
    torch.manual_seed(20)
    options: dict[str, Any] = {"num_labels": 1000}
    model = MobileNetV2ForImageClassification(MobileNetV2Config(**options))
    images = photographs()
    randomise(model, seed=21)
    calibrate_batch_norms(model, images, seed=22)
    finite(model(images).logits)
    return export(model, folder, {"pixel_values": images[:1]}, ["logits"])
