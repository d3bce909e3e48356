"""Text out of a language model's artifact, as it comes; what ``tapeout generate`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapeout.ir.errors import CompileError
from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.program import load
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.speculative import (
    Draft,
    EarlyExit,
    Heads,
    Lookup,
    SmallModel,
    generate,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Wish:
    """What to generate.

    Guesses come from another artifact (``draft``), the text (``lookup``), heads (``medusa``), or
    the model's own layers up to an exit (``draft_exit``).
    """

    prompt: str
    tokenizer: Path
    tokens: int = 128
    stop: Sequence[str] = ()
    draft: Path | None = None
    lookup: bool = False
    medusa: bool = False
    ahead: int = 4
    draft_exit: int | None = None


@dataclass(frozen=True)
class Speed:
    """How long it took: seconds to the first token, and from there to the last."""

    prompt: int
    first: float
    tokens: int
    rest: float

    @property
    def line(self) -> str:
        """For a person."""
        rate = (self.tokens - 1) / self.rest if self.rest > 0 and self.tokens > 1 else 0.0
        return (
            f"{self.prompt} tokens of prompt in {self.first:.2f} s, "
            f"{self.tokens} new ones, {rate:.1f} a second"
        )


def run(
    artifact: Path, wish: Wish, sampler: Sampler, threads: int | None, tell: Callable[[str], None]
) -> Speed:
    """Generate text; ``tell`` gets each piece of it. E0301, E0605 of the tokenizer; E05xx."""
    tokenizer = _tokenizer(wish.tokenizer)
    prompt: list[int] = tokenizer.encode(wish.prompt).ids
    ends = {i for i in map(tokenizer.token_to_id, wish.stop) if i is not None}
    length = len(prompt) + wish.tokens + wish.ahead + 1
    with load(artifact, threads) as program:
        session = program.decoding(max_length=min(length, program.context or length))
        draft = _draft(wish, sampler, session, threads)
        began = time.perf_counter()
        made = generate(session, prompt, sampler, draft, wish.ahead)
        shown, first, count = _Shown(tokenizer), 0.0, 0
        for token in _until(islice(made, wish.tokens), ends):
            count += 1
            first = first or time.perf_counter() - began
            tell(shown.add(token))
        return Speed(len(prompt), first, count, time.perf_counter() - began - first)


class _Shown:
    """Text of tokens so far: a character of several tokens is shown when it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.tokens, self.length = tokenizer, list[int](), 0

    def add(self, token: int) -> str:
        """What one token more adds to the text."""
        self.tokens.append(token)
        text: str = self.tokenizer.decode(self.tokens)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        piece, self.length = text[self.length :], len(text)
        return piece


def _until(tokens: Iterator[int], ends: set[int]) -> Iterator[int]:
    for token in tokens:
        if token in ends:
            return
        yield token


def _draft(
    wish: Wish, sampler: Sampler, model: DecodingSession, threads: int | None
) -> Draft | None:
    vocabulary = model.decoder.vocabulary
    if wish.lookup:
        return Lookup(vocabulary)
    if wish.medusa:
        return Heads(model)
    if wish.draft_exit is not None:
        model.decoder.depth(wish.draft_exit)
        return EarlyExit(model, _like(sampler), wish.draft_exit)
    if wish.draft is None:
        return None
    session = load(wish.draft, threads).decoding(max_length=model.max_length)
    if session.decoder.vocabulary != vocabulary:
        raise CompileError(
            "E0106",
            "the draft has another vocabulary than the model",
            [("model", vocabulary), ("draft", session.decoder.vocabulary)],
            "give a draft that was trained with the same tokenizer",
        )
    return SmallModel(session, _like(sampler))


def _like(sampler: Sampler) -> Sampler:
    """A sampler for guesses, that draws other numbers."""
    options: dict[str, Any] = {n: getattr(sampler, n) for n in ("temperature", "top_k", "top_p")}
    return Sampler(**options, min_p=sampler.min_p, seed=sampler.seed + 1)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise CompileError(
            "E0605", "tokenizers is not installed", [], "pip install 'tapeout[generate]'"
        ) from error
    if not path.is_file():
        raise CompileError("E0301", "the tokenizer does not exist", [("file", path)])
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise CompileError(
            "E0301",
            "the file is no tokenizer",
            [("file", path), ("it says", str(error)[:200])],
            "give a tokenizer.json of the `tokenizers` library",
        ) from error
