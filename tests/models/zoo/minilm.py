"""all-MiniLM-L6-v2 with its trained weights: tokens to unit-length sentence embeddings.

Further arrays: ``sentences.npz`` holds the thirty sample sentences as one padded batch together
with the embeddings that torch computes for them; ``short.npz`` is one short sentence, for timing
a cold start. ``pairs.npz`` holds the sentences of ``pairs.py`` as tokens with torch's embeddings,
and the pairs as their indices ``left``, ``right`` and ``kind``; ``calibration.npz`` holds tokens of
other sentences.
"""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import BertModel

from .export import export, finite
from .pairs import pairs
from .recipe import Made, Recipe
from .samples import minilm_folder, passage, sentences, tokens

BATCH = 32


class SentenceEncoder(torch.nn.Module):
    """The encoder, the mean over the tokens that are not masked, and the scaling to length 1."""

    def __init__(self) -> None:
        super().__init__()
        transformers.logging.set_verbosity_error()  # the pooler is left out on purpose
        transformers.logging.disable_progress_bar()
        self.encoder = BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token embeddings ``[B, S, 384]`` and sentence embeddings ``[B, 384]``."""
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return states, torch.nn.functional.normalize(mean, p=2.0, dim=1)


def _arrays(texts: list[str]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tokens(texts).items()}


def _embedded(model: SentenceEncoder, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the texts' tokens and torch's embeddings of them, which padding does not change."""
    parts = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    with torch.no_grad():
        found = [finite(model(**tokens(part))[1]) for part in parts]
    return _arrays(texts) | {"embeddings": np.concatenate(found)}


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model."""
    model = SentenceEncoder().eval()
    made = export(
        model,
        folder,
        tokens(sentences()[:3]),
        ["token_embeddings", "sentence_embedding"],
        dims=recipe.dims,
        axes=("B", "S"),
        sample=passage(128),
    )
    drawn = pairs()
    arrays = {
        "sentences": _embedded(model, sentences()),
        "short": _arrays(sentences()[:1]),
        "pairs": _embedded(model, drawn.texts)
        | {"left": drawn.left, "right": drawn.right, "kind": drawn.kind},
        "calibration": _arrays(drawn.calibration),
    }
    return Made(made.inputs, made.flop, arrays)
