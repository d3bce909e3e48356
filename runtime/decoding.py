"""Sessions of language models: prompts in, logits out, sequences that fork and go back.

A session has ``batch`` sequences over one pool of pages. What a run takes besides its tokens
(places in the cache, what each token sees) is made up here, in arrays that live as long as the
session: a step of decoding allocates nothing in the cache and keeps no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tapeout.runtime.decoder import STAY, Decoder
from tapeout.runtime.errors import RunError
from tapeout.runtime.pages import Pages
from tapeout.runtime.sequence import ALL, CachedSequence
from tapeout.runtime.tensors import Array
from tapeout.runtime.trees import Tree

Prompt = Sequence[int] | Array


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
        if decoder.context is not None and max_length > decoder.context:
            raise RunError(
                "E0519",
                "the model is not made for texts that long",
                (("max_length", max_length), ("most", decoder.context)),
                "begin the session with a smaller max_length",
            )
        self.decoder, self.batch, self.max_length = decoder, batch, max_length
        self.columns = -(-max_length // decoder.page)
        count = batch * self.columns if pages is None else pages
        self.pages = Pages(decoder.pools(count), count)
        self._rows = decoder.rows(batch)
        self._before: _Before | None = None
        self._grown: _Grown | None = None
        self._beside: dict[int, dict[int, tuple[Array, ...]]] = {}
        self._sequences = [CachedSequence() for _ in range(batch)]
        self._table = np.zeros((batch, self.columns), np.int32)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that each sequence has in the cache; provisional ones do not count."""
        return tuple(s.length for s in self._sequences)

    @property
    def trees(self) -> bool:
        """Whether :meth:`verify` takes trees: no layer is recurrent or has a window below 64."""
        return "tree" in self.decoder.inputs and not self._rows

    @property
    def states(self) -> dict[str, Array]:
        """The arrays of the cache by name, those of pages shared with forks."""
        return {**self.pages.pools, **self._rows}

    @property
    def cache_bytes(self) -> int:
        """Memory of the cache: pages * slots of a page * sum over layers of ``G * (D + E)``.

        Recurrent layers add a row for each sequence: ``(K - 1) * C + H * N * P``.
        """
        return self.pages.bytes + sum(row.nbytes for row in self._rows.values())

    @property
    def hidden(self) -> Array:
        """What the model's last product was given for each sequence's last token ``[batch, D]``.

        Of a program compiled with ``hidden=True``; E0524 as :meth:`beside`.
        """
        return self.beside("hidden")

    def beside(self, output: str) -> Array:
        """Another output than the logits, of each sequence's last token: ``[batch, ...]``.

        E0524 for one that the program does not have, and where the last run gave no logits of that
        token: after :meth:`truncate` to before it, or in a fork.
        """
        try:
            at = self.decoder.others.index(output)
            last = [self._beside[s][q.end][at] for s, q in enumerate(self._sequences)]
        except (ValueError, KeyError):
            raise RunError(
                "E0524",
                f"there is no '{output}' of the last tokens",
                (("computed beside logits", ", ".join(self.decoder.others) or "nothing"),),
                "compile with hidden=True or medusa=..., and ask after prefill, decode or verify",
            ) from None
        return np.stack(last)

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

    def decode(self, tokens: Prompt, exit: int | Sequence[int | None] | None = None) -> Array:
        """Add one token to each sequence; returns the logits ``[batch, V]`` after them.

        ``exit``: the layers after which the model is left, as it was compiled with, for all or of
        each sequence (None: not left). A token that left is provisional, as later layers have no
        keys of it: a run sees the tokens that came as far as it goes, and forgets those behind
        them, so that runs without exits give what they would have given without the others.
        Errors: E0520, E0521, E0526 (no such exit).
        """
        exits = [exit] * self.batch if isinstance(exit, int | None) else self._counted(list(exit))
        depths = [self.decoder.depth(each) for each in exits]
        rows = self._checked([[t] for t in np.asarray(tokens).reshape(-1).tolist()], depths)
        return self._step(list(enumerate(rows)), list(range(self.batch)), depths)

    def verify(
        self, tokens: Sequence[Prompt], parents: Sequence[Sequence[int]] | None = None
    ) -> list[Array]:
        """Add tokens to each sequence; returns the logits ``[n, V]`` after every one of them.

        What turns out to be wrong is taken back with :meth:`rollback`.

        With ``parents`` the tokens of a sequence are a tree of at most 64: each has the number of
        the earlier token that it follows, or -1 to follow the text. Nothing is added then until
        :meth:`keep`. Logits are those of each path alone but for rounding, since its keys stand
        elsewhere in the cache; a line without ``parents`` gives the very bits. E0525 for what is no
        tree, and where the program takes none.
        """
        rows = self._checked(tokens)
        grown = None if parents is None else self._trees(rows, parents)
        ends = np.cumsum([len(r) for r in rows])
        if ends[-1] > self.decoder.most:
            raise _too_many(int(ends[-1]), self.decoder.most)
        before = self._snapshot(rows)
        every = list(range(int(ends[-1])))
        if grown is None:
            logits = self._step(list(enumerate(rows)), every)
            self._before = before
        else:
            logits, *others = self._run(list(enumerate(rows)), every, [ALL] * self.batch, grown)
            beside = zip(*(np.split(other, ends[:-1]) for other in others), strict=True)
            self._grown = _Grown(grown, list(beside))
        return np.split(logits, ends[:-1])

    def keep(self, paths: Sequence[int] | Sequence[Sequence[int]]) -> None:
        """Add a path of each sequence's tree to it, from a root on, or nothing; forget the rest.

        ``paths``: for each sequence the numbers of the tokens that stay, each a child of the one
        before. Only of the last run: any other forgets its trees. Errors: E0525.
        """
        if self._grown is None:
            raise RunError(
                "E0525",
                "there is no tree of which something could be kept",
                (),
                "give verify() parents, and keep a path before anything else is run",
            )
        trees, beside = self._grown
        found = [list(map(int, path)) for path in self._each(paths)]
        for tree, path in zip(trees, found, strict=True):
            tree.check(path)
        self._room(list(enumerate(found)))
        for s, path in enumerate(found):
            length = self._sequences[s].length
            place, at = np.arange(length, length + len(path)), np.asarray(path, np.int64)
            self.pages.move(self._slots(s, length + at), self._slots(s, place))
            self._sequences[s].length += len(path)
            if path and beside:
                self._beside[s] = {
                    length + 1 + i: tuple(other[token] for other in beside[s])
                    for i, token in enumerate(path)
                }
        self._forget()

    def rollback(self, count: int | Sequence[int]) -> None:
        """Forget the last ``count`` tokens of each sequence; E0521 when there are fewer."""
        counts = [count] * self.batch if isinstance(count, int) else list(count)
        self.truncate([s.length - n for s, n in zip(self._sequences, counts, strict=True)])

    def truncate(self, length: int | Sequence[int]) -> None:
        """Keep the first ``length`` tokens of each sequence, and none that is provisional.

        Recurrent layers go back to nothing, or into what the last run verified: E0523 otherwise.
        """
        lengths = [length] * self.batch if isinstance(length, int) else list(length)
        for sequence, wanted in zip(self._sequences, lengths, strict=True):
            if not 0 <= wanted <= sequence.length:
                raise RunError(
                    "E0521",
                    "a sequence has not that many tokens",
                    (("has", sequence.length), ("kept", wanted)),
                )
        beside, replayed = self._beside, self._replayed(lengths)
        self._grown = None
        for s, wanted in enumerate(lengths):
            self._cut(s, wanted - len(replayed.get(s, [])))
        if replayed:
            parts = list(replayed.items())
            self._step(parts, [0])
            self._beside = beside

    def reset(self) -> None:
        """Forget everything."""
        self.truncate(0)

    def fork(self) -> DecodingSession:
        """A session that goes on from here by itself; pages are shared until one of them writes."""
        made = DecodingSession.__new__(DecodingSession)
        made.decoder, made.batch, made.max_length = self.decoder, self.batch, self.max_length
        made.columns, made.pages, made._table = self.columns, self.pages, self._table.copy()
        made._sequences = [s.copy() for s in self._sequences]
        made._rows = {name: row.copy() for name, row in self._rows.items()}
        made._before, made._grown, made._beside = None, None, {}
        for sequence in made._sequences:
            # Behind the tokens stands what may be left of a tree.
            del sequence.pages[-(-sequence.end // self.decoder.page) :]
            for page in sequence.pages:
                self.pages.share(page)
        return made

    def close(self) -> None:
        """Give all pages back: those of a fork are the pool's."""
        self.reset()

    # One run

    def _step(
        self,
        parts: Sequence[tuple[int, list[int]]],
        rows: list[int],
        depths: Sequence[int] | None = None,
    ) -> Array:
        """Add tokens to some sequences; returns the logits of the tokens numbered ``rows``.

        ``depths``: through how many layers those of each sequence go.
        """
        depths = depths or [ALL] * self.batch
        logits, *others = self._run(parts, rows, depths)
        self._beside = {s: at for s, at in self._beside.items() if s not in dict(parts)}
        before = [sequence.end for sequence in self._sequences]
        ends = [(s, before[s] + i + 1) for s, tokens in parts for i in range(len(tokens))]
        for s, tokens in parts:
            self._sequences[s].add(len(tokens), depths[s])
        for r, token in enumerate(rows if others else ()):
            s, end = ends[token]
            self._beside.setdefault(s, {})[end] = tuple(other[r] for other in others)
        return logits

    def _run(
        self,
        parts: Sequence[tuple[int, list[int]]],
        rows: list[int],
        depths: Sequence[int],
        trees: Sequence[Tree] | None = None,
    ) -> list[Array]:
        """Run tokens behind some sequences; returns the outputs of those numbered ``rows``."""
        total = sum(len(tokens) for _, tokens in parts)
        self._forget()
        for s, _ in parts:
            self._cut(s, self._sequences[s].length, depths[s])
        try:
            self._room(parts)
        except RunError:
            for s, _ in parts:
                self._cut(s, self._sequences[s].length, depths[s])
            raise
        self._before = None
        ids, positions = np.empty(total, np.int64), np.empty(total, np.int64)
        slots, sequence = np.empty(total, np.int64), np.empty(total, np.int32)
        ends, words = np.empty(total, np.int32), np.zeros(total, np.int64)
        spans = np.zeros((2, self.batch), np.int32)
        at = 0
        for s, tokens in parts:
            n, length = len(tokens), self._sequences[s].end
            place, mine = np.arange(length, length + n), slice(at, at + n)
            ids[mine], sequence[mine], slots[mine] = tokens, s, self._slots(s, place)
            positions[mine], ends[mine] = place, place + 1
            if trees is not None:
                positions[mine], ends[mine] = length + trees[s].depths, length
                words[mine] = trees[s].words
            spans[:, s] = at, at + n
            at += n
        given = {
            "ids": ids,
            "positions": positions,
            "rows": np.asarray(rows, np.int64),
            "slots": slots,
            "sequence": sequence,
            "end": ends,
            "tree": words,
            "table": self._table,
            "start": spans[0],
            "stop": spans[1],
            **self._staying(np.asarray(depths)[sequence]),
        }
        made = self.decoder.run(
            {name: given[name] for name in given if name in self.decoder.inputs},
            self.states,
        )
        return list(made.values())

    def _slots(self, s: int, place: Array) -> Array:
        """The slots of a pool for places in a sequence."""
        page = self.decoder.page
        return self._table[s, place // page].astype(np.int64) * page + place % page

    def _staying(self, depths: Array) -> dict[str, Array]:
        """Which tokens go on behind each exit, as places among those that came to it."""
        found: dict[str, Array] = {}
        for number in self.decoder.exits:
            found[f"{STAY}{number}"] = np.flatnonzero(depths > number)
            depths = depths[depths > number]
        return found

    def _room(self, parts: Sequence[tuple[int, list[int]]]) -> None:
        """Have pages for more tokens, which nobody else holds where they are written to."""
        page = self.decoder.page
        for s, tokens in parts:
            sequence = self._sequences[s]
            if sequence.end % page and tokens:
                last = sequence.end // page
                self._put(s, last, self.pages.own(sequence.pages[last]))
            while len(sequence.pages) * page < sequence.end + len(tokens):
                sequence.pages.append(self.pages.take())
                self._put(s, len(sequence.pages) - 1, sequence.pages[-1])

    def _forget(self) -> None:
        """Give back what a tree holds behind the text."""
        if self._grown is not None:
            self._grown = None
            for s, sequence in enumerate(self._sequences):
                self._cut(s, sequence.length)

    def _put(self, s: int, column: int, page: int) -> None:
        self._sequences[s].pages[column] = page
        self._table[s, column] = page

    def _cut(self, s: int, length: int, depth: int = ALL) -> None:
        """Keep that many tokens, and of provisional ones those that came to a depth."""
        sequence = self._sequences[s]
        sequence.early = [each for each in sequence.early if each >= depth]
        kept = -(-(length + len(sequence.early)) // self.decoder.page)
        for page in sequence.pages[kept:]:
            self.pages.drop(page)
        del sequence.pages[kept:]
        sequence.length = length

    def _snapshot(self, tokens: list[list[int]]) -> _Before | None:
        """What recurrent layers hold before tokens that may be taken back; None without any."""
        if not self._rows:
            return None
        return _Before(self.lengths, tokens, {n: row.copy() for n, row in self._rows.items()})

    def _replayed(self, lengths: Sequence[int]) -> dict[int, list[int]]:
        """Have recurrent layers go back; returns what each sequence then has to see again."""
        found: dict[int, list[int]] = {}
        if not self._rows:
            return found
        going = [s for s, wanted in enumerate(lengths) if wanted != self._sequences[s].length]
        for s in going:
            known = lengths[s] == 0 or (self._before and self._before.lengths[s] <= lengths[s])
            if not known:
                raise RunError(
                    "E0523",
                    "a recurrent layer does not go back that far",
                    (("has", self._sequences[s].length), ("kept", lengths[s])),
                    "fork() the session before, or add the tokens with verify()",
                )
        for s in going:
            for name, row in self._rows.items():
                row[s] = self._before.rows[name][s] if lengths[s] and self._before else 0
            if lengths[s] and self._before:
                again = self._before.tokens[s][: lengths[s] - self._before.lengths[s]]
                found |= {s: again} if again else {}
        return found

    def _checked(
        self, prompts: Prompt | Sequence[Prompt], depths: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Lists of tokens, one for each sequence, that are tokens and have room."""
        depths = depths or [ALL] * self.batch
        found = [[int(t) for t in row] for row in self._each(prompts)]
        for tokens, sequence, depth in zip(found, self._sequences, depths, strict=True):
            if not tokens:
                raise RunError("E0521", "a prompt is empty", (), "give at least one token")
            length = sequence.seen(depth) + len(tokens)
            if length > self.max_length:
                raise _too_many(length, self.max_length)
            bad = [t for t in tokens if not 0 <= t < self.decoder.vocabulary]
            if bad:
                facts = (("tokens", bad[:8]), ("vocabulary", self.decoder.vocabulary))
                raise RunError(
                    "E0521", "there is no such token", facts, "use the model's tokenizer"
                )
        return found

    def _trees(self, rows: list[list[int]], parents: Sequence[Sequence[int]]) -> list[Tree]:
        """The tree of each sequence's tokens."""
        if not self.trees:
            raise RunError(
                "E0525",
                "the program takes no trees of guesses",
                (("input 'tree'", "none"),),
                "guess a line: verify() without parents",
            )
        trees = [Tree([int(p) for p in row]) for row in self._each(parents)]
        for tokens, tree in zip(rows, trees, strict=True):
            if len(tokens) != len(tree.parents):
                facts = (("tokens", len(tokens)), ("parents", len(tree.parents)))
                raise RunError(
                    "E0525",
                    "there is not one parent for each token",
                    facts,
                    "give each token the number of the one it follows, -1 for the text",
                )
        return trees

    def _each(self, given: Any) -> list[Any]:
        """What is given for each sequence; one alone needs no list around it."""
        rows: list[Any] = list(given)
        if not rows or np.ndim(rows[0]) == 0:
            rows = [rows]
        return self._counted(rows)

    def _counted(self, rows: list[Any]) -> list[Any]:
        if len(rows) != self.batch:
            raise RunError(
                "E0521",
                "what is given is not one for each sequence",
                (("sequences", self.batch), ("given", len(rows))),
                "give as many as program.session(batch=...)",
            )
        return rows


class _Before(NamedTuple):
    """Lengths and recurrent states before a run, and the tokens that it added."""

    lengths: tuple[int, ...]
    tokens: list[list[int]]
    rows: dict[str, Array]


class _Grown(NamedTuple):
    """The tree behind each sequence, and what was computed beside the logits of its tokens."""

    trees: list[Tree]
    beside: list[tuple[Array, ...]]


def _too_many(have: int, most: int) -> RunError:
    return RunError(
        "E0521",
        "a sequence is too long",
        (("tokens", have), ("most", most)),
        "begin the session with a greater max_length, or truncate it",
    )
