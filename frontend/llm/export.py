"""A causal language model as an exported program: tokens in, logits of the asked ones out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tapeout.frontend.aten.export import Exported, exported
from tapeout.frontend.llm.exits import layers_of, leaving
from tapeout.frontend.llm.heads import Heads, heads_of
from tapeout.frontend.llm.hooks import hooked
from tapeout.frontend.llm.state_space import is_recurrent
from tapeout.ir.decoding import TOKENS


class Step(torch.nn.Module):
    """Tokens of any sequences, each with its place: ``ids [T]``, ``positions [T]``.

    ``rows [R]`` are the tokens whose logits ``[R, V]`` are wanted. Beside them, where asked for:
    ``hidden [R, D]``, what the last product is given, and of ``heads`` ``medusa [R, M, V]``. With
    ``exits``, ``stay[E] [S]`` are those that go on behind layer ``E``, as places among the tokens
    that came there; the logits of the others are those of where they left.
    """

    def __init__(
        self,
        model: Any,
        hidden: bool = False,
        heads: Heads | None = None,
        exits: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.model, self.hidden, self.heads = model, hidden, heads
        self.layers = layers_of(model, exits) if exits else []

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        rows: torch.Tensor,
        stay: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Logits, and what else is wanted."""
        given: list[torch.Tensor] = []

        def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            given.append(inputs[0])

        hook = self.model.get_output_embeddings().register_forward_pre_hook(keep)
        with leaving(self.layers, ids, {int(number): at for number, at in stay.items()}):
            out = self.model(
                input_ids=ids[None],
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=rows,
            )
        hook.remove()
        found = {"logits": out.logits[0]}
        if self.hidden:
            found["hidden"] = given[0][0]
        if self.heads is not None:
            found["medusa"] = self.heads(given[0][0])
        return found


def exported_step(
    model: Any, hidden: bool = False, medusa: Path | None = None, exits: Sequence[int] = ()
) -> Exported:
    """Export a causal model of ``transformers``; the refusals of ``exported``, E0106 of exits.

    ``hidden``: with hidden states as an output. ``medusa``: a file of heads that guess ahead.
    ``exits``: numbers of layers behind which tokens may leave.
    """
    heads = None if medusa is None else heads_of(medusa, model)
    step = Step(model, hidden, heads, exits)
    # What is one size in the example is taken for one size.
    count = 7 + len(exits)
    ids, rows = torch.zeros(count, dtype=torch.long), torch.tensor([2, 6])
    stay = {str(number): torch.arange(count - 1 - i) for i, number in enumerate(exits)}
    tokens = torch.export.Dim("T", min=1, max=TOKENS)
    shapes = {
        "ids": {0: tokens},
        "positions": {0: tokens},
        "rows": {0: torch.export.Dim("R", min=1, max=TOKENS)},
        "stay": {n: {0: torch.export.Dim(f"S{n}", min=0, max=TOKENS)} for n in stay},
    }
    with hooked(model):
        made = exported(step, (ids, torch.arange(count), rows, stay), dynamic_shapes=shapes)
    return replace(made, context=context_of(model))


def context_of(model: Any) -> int | None:
    """How many tokens a model is made for: None where each of its positions is computed alike.

    Positions with a table of their own end with it. Rotary angles that change with the length of
    the text (``dynamic``, ``longrope``) are those of a short text up to the original length.
    """
    config = model.config
    most: int | None = getattr(config, "max_position_embeddings", None)
    most = most or getattr(config, "n_positions", None)
    rotary = any("Rotary" in type(part).__name__ for part in model.modules())
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    # Some models have parameters for each kind of layer.
    kinds: list[dict[str, Any]] = [rope, *(v for v in rope.values() if isinstance(v, dict))]
    varying = [each for each in kinds if each.get("rope_type") in ("dynamic", "longrope")]
    originals: list[int | None] = [
        each.get("original_max_position_embeddings") or most for each in varying
    ]
    lengths = [length for length in originals if length is not None]
    if lengths:
        return min(lengths)
    return None if rotary or is_recurrent(model) else most
