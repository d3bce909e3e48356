"""GPT-2 124M with its language-model head: a prefill of 128 tokens without a past."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from .export import export, finite
from .recipe import Made, Recipe
from .samples import byte_tokens, sentences
from .weights import randomise


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model."""
    torch.manual_seed(2)
    # The usual 0.02 leaves every attention nearly uniform; 0.04 gives it peaks, as training does.
    model = GPT2LMHeadModel(GPT2Config(use_cache=False, initializer_range=0.04)).eval()
    randomise(model, seed=3)
    ids = byte_tokens(" ".join(sentences()), 128)
    finite(model(input_ids=ids).logits)
    return export(model, folder, {"input_ids": ids}, ["logits"])
