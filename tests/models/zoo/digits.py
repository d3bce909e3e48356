"""Small classifiers trained here on scikit-learn's 8x8 digits: a CNN and a 64-64-64-10 MLP.

Further arrays: ``test.npz`` holds the test split (``images``, ``labels``) and the logits that torch
computes for it; ``calibration.npz`` holds training images under the input's name. ``info.json`` has
the test accuracy under ``facts``.
"""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from .export import export, finite
from .recipe import Made, Recipe

EPOCHS, BATCH = 30, 64
CALIBRATION_IMAGES = 64


def _cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def _mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def _split(shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Return train images, test images, train labels, test labels; images are in [0, 1]."""
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels) / 16.0).astype(np.float32).reshape(-1, *shape)
    parts = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return tuple(torch.from_numpy(part) for part in parts)


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimiser.step()
    model.eval()


def _trained(model: nn.Module, shape: tuple[int, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Train the model; return the further arrays."""
    train_images, test_images, train_labels, test_labels = _split(shape)
    _train(model, train_images, train_labels)
    with torch.no_grad():
        logits = finite(model(test_images))
    return {
        "test": {"images": test_images.numpy(), "labels": test_labels.numpy(), "logits": logits},
        "calibration": {"image": train_images[:CALIBRATION_IMAGES].numpy()},
    }


def make(recipe: Recipe, folder: Path) -> Made:
    """Train and write the CNN, for any batch, or the MLP, for one image."""
    torch.manual_seed(8)
    batched = "B" in recipe.dims
    model, shape = (_cnn(), (1, 8, 8)) if batched else (_mlp(), (64,))
    arrays = _trained(model, shape)
    test = arrays["test"]
    images = torch.from_numpy(test["images"])
    made = export(
        _Named(model),
        folder,
        {"image": images[:4] if batched else images[:1]},
        ["logits"],
        dims=recipe.dims,
        axes=("B",) if batched else (),
        sample={"image": images[:1]},
    )
    accuracy = float((test["logits"].argmax(1) == test["labels"]).mean())
    return Made(made.inputs, made.flop, arrays, {"accuracy": accuracy})


class _Named(nn.Module):
    """Gives the input of a ``Sequential`` a name."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image)
