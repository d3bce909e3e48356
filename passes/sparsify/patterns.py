"""Where the zeros of a weight matrix ``[N, K]`` may be, and what ``--sparsify`` says of it.

    2:4, 1:4, 4:16            of every M weights along K, at most N are not zero
    4x1@0.8                   blocks of 4 outputs by one input; 80 % of them are zero
    unstructured@0.9          anywhere; 90 % are zero

``,saliency`` or ``,magnitude`` follows: by what a weight is judged. A TOML file says it per layer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeAlias

from tapeout.ir.errors import CompileError
from tapeout.passes.quantize.recipe import ByLayer, parse_recipe

Criterion: TypeAlias = Literal["magnitude", "saliency"]

MOST_M = 256
"""Indices within a group are of 8 bits at most."""


@dataclass(frozen=True, slots=True)
class NM:
    """At most ``n`` of every ``m`` neighbours along K are not zero; the last group is ragged."""

    n: int
    m: int

    def __post_init__(self) -> None:
        assert 1 <= self.n < self.m <= MOST_M, f"{self.n}:{self.m} is no pattern"

    @property
    def index_bits(self) -> int:
        """The width of a position within a group."""
        return (self.m - 1).bit_length()

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of ``rows`` outputs by one input are zero or not; the last stripe is ragged."""

    rows: int = 4

    def __str__(self) -> str:
        return f"{self.rows}x1"


@dataclass(frozen=True, slots=True)
class Unstructured:
    """Any weight may be zero."""

    def __str__(self) -> str:
        return "unstructured"


Pattern: TypeAlias = NM | Blocks | Unstructured


@dataclass(frozen=True, slots=True)
class Sparsity:
    """A pattern, the part of the weights that becomes zero, and by what they are judged."""

    pattern: Pattern
    zeros: float
    by: Criterion = "magnitude"

    def __str__(self) -> str:
        part = "" if isinstance(self.pattern, NM) else f"@{self.zeros:g}"
        return f"{self.pattern}{part}{',saliency' if self.by == 'saliency' else ''}"


KNOWN = "N:M (2:4, 1:4, 4:16), 4x1@ZEROS (4x1@0.8), unstructured@ZEROS (unstructured@0.9)"

_USUAL = ("2:4", "1:4", "4:16", "4x1@0.8", "unstructured@0.9")
_N_OF_M = re.compile(r"([0-9]{1,6}):([0-9]{1,6})")
_PART = re.compile(r"(4x1|unstructured)@([0-9]{0,3}(?:\.[0-9]{0,9})?)(%?)")


def parse_sparsity(text: str, where: Sequence[tuple[str, object]]) -> Sparsity | None:
    """The sparsity that a text asks for, None for ``none``; E0111 for anything else."""
    facts = [*where, ("given", text)]
    name, *options = (part.strip() for part in text.split(","))
    by = _criterion(options, facts)
    if name == "none" and not options:
        return None
    if match := _N_OF_M.fullmatch(name):
        n, m = int(match[1]), int(match[2])
        if not 1 <= n < m <= MOST_M:
            allowed = f"at least 1 of at most {MOST_M} weights stays, and not all"
            raise _refusal(f"'{name}' prunes nothing, or all", facts, allowed, "take 2:4")
        return Sparsity(NM(n, m), 1 - n / m, by)
    if match := _PART.fullmatch(name):
        zeros = _part(match[2], match[3])
        if zeros is None:
            allowed = "more than 0 and less than 1"
            fix = f"write {match[1]}@0.8 for 80 % zeros"
            raise _refusal(f"'{name}' is no part of the weights", facts, allowed, fix)
        return Sparsity(Blocks() if match[1] == "4x1" else Unstructured(), zeros, by)
    raise _unknown(name, facts)


def parse_sparsify(text: str) -> ByLayer[Sparsity]:
    """What ``--sparsify TEXT`` says: a sparsity for all layers, or a ``.toml`` file's.

    Errors: E0111 for what is no sparsity, E0112 for a file that cannot be read.
    """
    return ByLayer(*parse_recipe(text, "--sparsify", parse_sparsity))


def _criterion(options: Sequence[str], facts: Sequence[tuple[str, object]]) -> Criterion:
    match options:
        case []:
            return "magnitude"
        case ["magnitude" | "saliency" as by]:
            return by
        case _:
            what = f"'{','.join(options)}' does not say how weights are judged"
            raise _refusal(what, facts, "magnitude, saliency", "take one of these, or none")


def _part(digits: str, percent: str) -> float | None:
    if not any(c.isdigit() for c in digits):
        return None
    zeros = float(digits) / (100 if percent else 1)
    return zeros if 0 < zeros < 1 else None


def _unknown(name: str, facts: Sequence[tuple[str, object]]) -> CompileError:
    if name in ("4x1", "unstructured"):
        fix = f"say how many zeros: {name}@0.8 for 80 %"
    else:
        near = get_close_matches(name.casefold(), _USUAL, 1, 0.4)
        fix = f"did you mean {near[0]}?" if near else "take one of these, 2:4 for example"
    return CompileError("E0111", f"there is no sparsity '{name}'", [*facts, ("known", KNOWN)], fix)


def _refusal(
    what: str, facts: Sequence[tuple[str, object]], allowed: str, fix: str
) -> CompileError:
    return CompileError("E0111", what, [*facts, ("allowed", allowed)], fix)
