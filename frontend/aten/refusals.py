"""Everything that a program asks for and we have not, found before any work and told at once."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import torch
from torch import fx

from tapeout.frontend.aten.call import operator_name, place
from tapeout.frontend.aten.registry import find_rule
from tapeout.ir.errors import CompileError

SHOWN = 5
"""Places of one operator that a message lists."""


def unsupported_operators(graphs: Iterable[fx.Graph]) -> list[CompileError]:
    """E0401 for each operator without a rule, with where the user's model calls it."""
    found: dict[str, list[str]] = {}
    for graph in graphs:
        for node in graph.nodes:
            if node.op != "call_function" or is_size(node) or node.target is operator.getitem:
                continue
            if find_rule(operator_name(node)) is None:
                found.setdefault(operator_name(node), []).append(place(node))
    return [_unsupported(name, places) for name, places in found.items()]


def is_size(node: fx.Node) -> bool:
    """Whether a node computes a size, or a truth about sizes: torch's own trees say which."""
    value = node.meta.get("val")
    return isinstance(value, torch.SymInt | torch.SymBool | int | bool)


def _unsupported(name: str, places: list[str]) -> CompileError:
    distinct = list(dict.fromkeys(places))
    shown = [("where", p) for p in distinct[:SHOWN]]
    if len(distinct) > SHOWN:
        shown.append(("where", f"and {len(distinct) - SHOWN} more"))
    return CompileError(
        "E0401",
        f"operator {name} has no support",
        [("calls", len(places)), *shown],
        "replace it in the model, or write a rule for it: frontend/aten/rules",
    )
