"""ViT-base: 16x16 patches, a class token, twelve transformer layers."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

from pathlib import Path
from typing import Any

import torch
from transformers import ViTConfig, ViTForImageClassification

from .export import export, finite
from .recipe import Made, Recipe
from .samples import photographs
from .weights import randomise


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model."""
    torch.manual_seed(16)
    # The usual 0.02 leaves every attention nearly uniform; 0.04 gives it peaks, as training does.
    options: dict[str, Any] = {"num_labels": 1000, "initializer_range": 0.04}
    model = ViTForImageClassification(ViTConfig(**options))
    randomise(model, seed=17)
    image = photographs()[:1]
    finite(model(image).logits)
    return export(model, folder, {"pixel_values": image}, ["logits"])
