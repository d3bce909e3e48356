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

DIMS = {"B": (1, 16), "S": (1, 512)}
OUTPUTS = ["last_hidden_state", "pooler_output"]


def _bert() -> torch.nn.Module:
    torch.manual_seed(12)
    # The usual 0.02 leaves every attention nearly uniform; 0.04 gives it peaks, as training does.
    model = BertModel(BertConfig(initializer_range=0.04)).eval()
    randomise(model, seed=13)
    finite(model(**passage(128)).last_hidden_state)
    return model


def _make_static(folder: Path) -> Made:
    return export(_bert(), folder, passage(128), OUTPUTS)


def _make_dynamic(folder: Path) -> Made:
    batch = tokens(sentences()[:3])
    return export(_bert(), folder, batch, OUTPUTS, dims=DIMS, axes=("B", "S"), sample=passage(128))


RECIPES = (
    Recipe(__name__, "bert-base", "BERT-base, 128 tokens, random weights", _make_static),
    Recipe(__name__, "bert-base-dynamic", "BERT-base, any batch and length", _make_dynamic, DIMS),
)
