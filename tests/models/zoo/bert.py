"""BERT-base, once at 128 tokens and once with symbolic batch and length."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from .export import export, finite
from .recipe import Made, Recipe
from .samples import passage, sentences, tokens
from .weights import randomise

OUTPUTS = ["last_hidden_state", "pooler_output"]


def _bert() -> torch.nn.Module:
    torch.manual_seed(12)
    # The usual 0.02 leaves every attention nearly uniform; 0.04 gives it peaks, as training does.
    model = BertModel(BertConfig(initializer_range=0.04)).eval()
    randomise(model, seed=13)
    finite(model(**passage(128)).last_hidden_state)
    return model


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model: at 128 tokens, or for every batch and length when the recipe has dims."""
    if not recipe.dims:
        return export(_bert(), folder, passage(128), OUTPUTS)
    batch = tokens(sentences()[:3])
    return export(
        _bert(), folder, batch, OUTPUTS, dims=recipe.dims, axes=("B", "S"), sample=passage(128)
    )
