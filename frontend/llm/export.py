"""A causal language model as an exported program: tokens in, logits of the asked ones out."""

from __future__ import annotations

from typing import Any

import torch

from tapeout.frontend.aten.export import Exported, exported
from tapeout.frontend.llm.hooks import hooked
from tapeout.ir.decoding import TOKENS


class Step(torch.nn.Module):
    """Tokens of any sequences, each with its place: ``ids [T]``, ``positions [T]``.

    ``rows [R]`` are the tokens whose logits ``[R, V]`` are wanted.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Logits."""
        out = self.model(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=rows
        )
        return out.logits[0]


def exported_step(model: Any) -> Exported:
    """Export a causal model of ``transformers``; the refusals of ``exported``."""
    ids, rows = torch.zeros(7, dtype=torch.long), torch.tensor([2, 6])
    tokens, wanted = (
        torch.export.Dim("T", min=1, max=TOKENS),
        torch.export.Dim("R", min=1, max=TOKENS),
    )
    shapes = {"ids": {0: tokens}, "positions": {0: tokens}, "rows": {0: wanted}}
    with hooked(model):
        return exported(Step(model), (ids, torch.arange(7), rows), dynamic_shapes=shapes)
