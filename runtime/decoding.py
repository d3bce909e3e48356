"""Sessions of language models: prompts in, logits out, sequences that fork and go back.

A session has ``batch`` sequences over one pool of pages. What a run takes besides its tokens
(places in the cache, what each token sees) is made up here, in arrays that live as long as the
session: a step of decoding allocates nothing in the cache and keeps no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.runtime.dtypes import numpy_dtypes
from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import Manifest
from tapeout.runtime.pages import Pages
from tapeout.runtime.tensors import Array

Run = Callable[[Mapping[str, Any], Mapping[str, Array]], dict[str, Array]]
"""Runs a program once on inputs and on states, which it changes in place."""

INPUTS = ("ids", "positions", "rows", "slots", "sequence", "end", "table")
"""What a program takes that is a step of a language model."""

Prompt = Sequence[int] | Array


def is_decoder(manifest: Manifest) -> bool:
    """Whether a program is a step of a language model on a paged cache."""
    return {port.name for port in manifest.inputs} >= set(INPUTS)


class Decoder:
    """What the sessions of one program know of it."""

    def __init__(self, run: Run, manifest: Manifest) -> None:
        """Read sizes from the manifest's shapes."""
        self.run, self.manifest = run, manifest
        keys = next(s for s in manifest.states if s.name.startswith("keys."))
        self.page = int(keys.shape[3])
        limits = {s.name: s.hi for s in manifest.symbols}
        tokens = next(p for p in manifest.inputs if p.name == "ids").shape[0]
        self.most = tokens if isinstance(tokens, int) else limits[tokens]
        self.vocabulary = int(manifest.outputs[0].shape[1])

    def pools(self, pages: int) -> dict[str, Array]:
        """Zeroed pools of all layers."""
        return {
            s.name: np.zeros((pages, *map(int, s.shape[1:])), numpy_dtypes(s.dtype)[0])
            for s in self.manifest.states
        }


class DecodingSession:
    """``batch`` sequences of at most ``max_length`` tokens each."""

    def __init__(
        self, decoder: Decoder, batch: int, max_length: int, pages: int | None = None
    ) -> None:
        """Use :meth:`Program.session`. ``pages``: of the pool; enough for all sequences if None."""
        if batch < 1 or max_length < 1:
            raise RunError(
                "E0519",
                "a session has at least one sequence of at least one token",
                (("batch", batch), ("max_length", max_length)),
            )
        self.decoder, self.batch, self.max_length = decoder, batch, max_length
        self.columns = -(-max_length // decoder.page)
        count = batch * self.columns if pages is None else pages
        self.pages = Pages(decoder.pools(count), count)
        self._sequences = [_Sequence() for _ in range(batch)]
        self._table = np.zeros((batch, self.columns), np.int32)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that each sequence has in the cache."""
        return tuple(s.length for s in self._sequences)

    @property
    def cache_bytes(self) -> int:
        """Memory of the cache: pages * slots of a page * sum over layers of ``G * (D + E)``."""
        return self.pages.bytes

    def prefill(self, prompts: Prompt | Sequence[Prompt]) -> Array:
        """Add a prompt to each sequence; returns the logits ``[batch, V]`` after their last tokens.

        Prompts may differ in length. Those that together are longer than one run takes go through
        in several, which gives the same bits. Errors: E0520 (cache full), E0521 (too long, empty,
        not one for each sequence, no such token).
        """
        tokens = self._checked(prompts)
        logits = np.empty((self.batch, self.decoder.vocabulary), np.float32)
        for s, one in enumerate(tokens):
            found = logits
            for first in range(0, len(one), self.decoder.most):
                part = one[first : first + self.decoder.most]
                found = self._step([(s, part)], [len(part) - 1])
            logits[s] = found[0]
        return logits

    def decode(self, tokens: Prompt) -> Array:
        """Add one token to each sequence; returns the logits ``[batch, V]`` after them."""
        rows = self._checked([[t] for t in np.asarray(tokens).reshape(-1).tolist()])
        return self._step(list(enumerate(rows)), list(range(self.batch)))

    def verify(self, tokens: Sequence[Prompt]) -> list[Array]:
        """Add tokens to each sequence; returns the logits ``[n, V]`` after every one of them.

        What turns out to be wrong is taken back with :meth:`rollback`.
        """
        rows = self._checked(tokens)
        ends = np.cumsum([len(r) for r in rows])
        if ends[-1] > self.decoder.most:
            raise _too_many(int(ends[-1]), self.decoder.most)
        logits = self._step(list(enumerate(rows)), list(range(int(ends[-1]))))
        return np.split(logits, ends[:-1])

    def rollback(self, count: int | Sequence[int]) -> None:
        """Forget the last ``count`` tokens of each sequence; E0521 when there are fewer."""
        counts = [count] * self.batch if isinstance(count, int) else list(count)
        self.truncate([s.length - n for s, n in zip(self._sequences, counts, strict=True)])

    def truncate(self, length: int | Sequence[int]) -> None:
        """Keep the first ``length`` tokens of each sequence."""
        lengths = [length] * self.batch if isinstance(length, int) else list(length)
        for sequence, wanted in zip(self._sequences, lengths, strict=True):
            if not 0 <= wanted <= sequence.length:
                raise RunError(
                    "E0521",
                    "a sequence has not that many tokens",
                    (("has", sequence.length), ("kept", wanted)),
                )
        for s, wanted in enumerate(lengths):
            self._keep(s, wanted)

    def reset(self) -> None:
        """Forget everything."""
        self.truncate(0)

    def fork(self) -> DecodingSession:
        """A session that goes on from here by itself; pages are shared until one of them writes."""
        made = DecodingSession.__new__(DecodingSession)
        made.decoder, made.batch, made.max_length = self.decoder, self.batch, self.max_length
        made.columns, made.pages, made._table = self.columns, self.pages, self._table.copy()
        made._sequences = [s.copy() for s in self._sequences]
        for sequence in made._sequences:
            for page in sequence.pages:
                self.pages.share(page)
        return made

    def close(self) -> None:
        """Give all pages back: those of a fork are the pool's."""
        self.reset()

    # One run

    def _step(self, parts: Sequence[tuple[int, list[int]]], rows: list[int]) -> Array:
        """Run tokens of some sequences; returns the logits of the tokens numbered ``rows``."""
        total = sum(len(tokens) for _, tokens in parts)
        self._room(parts)
        ids, positions = np.empty(total, np.int64), np.empty(total, np.int64)
        slots, sequence = np.empty(total, np.int64), np.empty(total, np.int32)
        at, page = 0, self.decoder.page
        for s, tokens in parts:
            n, length = len(tokens), self._sequences[s].length
            place = np.arange(length, length + n)
            ids[at : at + n], positions[at : at + n] = tokens, place
            slots[at : at + n] = (
                self._table[s, place // page].astype(np.int64) * page + place % page
            )
            sequence[at : at + n] = s
            at += n
        made = self.decoder.run(
            {
                "ids": ids,
                "positions": positions,
                "rows": np.asarray(rows, np.int64),
                "slots": slots,
                "sequence": sequence,
                "end": (positions + 1).astype(np.int32),
                "table": self._table,
            },
            self.pages.pools,
        )
        for s, tokens in parts:
            self._sequences[s].length += len(tokens)
        return next(iter(made.values()))

    def _room(self, parts: Sequence[tuple[int, list[int]]]) -> None:
        """Have pages for more tokens, which nobody else holds where they are written to."""
        page = self.decoder.page
        for s, tokens in parts:
            sequence = self._sequences[s]
            if sequence.length % page and tokens:
                last = sequence.length // page
                self._put(s, last, self.pages.own(sequence.pages[last]))
            while len(sequence.pages) * page < sequence.length + len(tokens):
                sequence.pages.append(self.pages.take())
                self._put(s, len(sequence.pages) - 1, sequence.pages[-1])

    def _put(self, s: int, column: int, page: int) -> None:
        self._sequences[s].pages[column] = page
        self._table[s, column] = page

    def _keep(self, s: int, length: int) -> None:
        sequence = self._sequences[s]
        kept = -(-length // self.decoder.page)
        for page in sequence.pages[kept:]:
            self.pages.drop(page)
        del sequence.pages[kept:]
        sequence.length = length

    def _checked(self, prompts: Prompt | Sequence[Prompt]) -> list[list[int]]:
        """Lists of tokens, one for each sequence, that are tokens and have room."""
        rows: list[Any] = list(prompts)
        if not rows or np.ndim(rows[0]) == 0:
            rows = [rows]
        if len(rows) != self.batch:
            raise RunError(
                "E0521",
                "there is not one prompt for each sequence",
                (("sequences", self.batch), ("prompts", len(rows))),
                "give as many as program.session(batch=...)",
            )
        found = [[int(t) for t in row] for row in rows]
        for tokens, sequence in zip(found, self._sequences, strict=True):
            if not tokens:
                raise RunError("E0521", "a prompt is empty", (), "give at least one token")
            if sequence.length + len(tokens) > self.max_length:
                raise _too_many(sequence.length + len(tokens), self.max_length)
            bad = [t for t in tokens if not 0 <= t < self.decoder.vocabulary]
            if bad:
                facts = (("tokens", bad[:8]), ("vocabulary", self.decoder.vocabulary))
                raise RunError(
                    "E0521", "there is no such token", facts, "use the model's tokenizer"
                )
        return found


class _Sequence:
    """Pages and number of tokens of one sequence."""

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.length = 0

    def copy(self) -> _Sequence:
        made = _Sequence()
        made.pages, made.length = list(self.pages), self.length
        return made


def _too_many(have: int, most: int) -> RunError:
    return RunError(
        "E0521",
        "a sequence is too long",
        (("tokens", have), ("most", most)),
        "begin the session with a greater max_length, or truncate it",
    )
