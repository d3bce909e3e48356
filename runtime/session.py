"""A session: the states of a program, kept from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tapeout.runtime.dtypes import numpy_dtypes
from tapeout.runtime.errors import RunError
from tapeout.runtime.expression import evaluate_text
from tapeout.runtime.manifest import Manifest, State
from tapeout.runtime.tensors import Array

Run = Callable[[Mapping[str, Any], Mapping[str, Array]], dict[str, Array]]
"""Runs a program once on inputs and on states, which it changes in place."""


class Session:
    """States of one program; sessions of one program do not see each other."""

    def __init__(
        self,
        run: Run,
        manifest: Manifest,
        sizes: Mapping[str, int],
        first: Mapping[str, bytes | memoryview],
    ) -> None:
        """Use :meth:`Program.session`."""
        if not manifest.states:
            raise RunError("E0519", "the program keeps no states", (), "use program.run(inputs)")
        self._run, self._manifest, self._sizes, self._first = run, manifest, dict(sizes), first
        self._check_sizes()
        self.states = {s.name: self._begin(s) for s in manifest.states}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run once: :meth:`Program.run` on this session's states.

        A run that is refused before it begins (E0510 to E0515) leaves the states as they were.
        """
        return self._run(inputs, self.states)

    def reset(self) -> None:
        """Have all states hold again what they held at first."""
        for state in self._manifest.states:
            array = self.states[state.name]
            if state.name in self._first:
                array[...] = self._content(state, array.shape)
            else:
                array[...] = 0

    def fork(self) -> Session:
        """A session of its own that begins with what this one has come to."""
        made = Session(self._run, self._manifest, self._sizes, self._first)
        made.states = {name: array.copy() for name, array in self.states.items()}
        return made

    @property
    def bytes(self) -> int:
        """Memory of all states."""
        return sum(array.nbytes for array in self.states.values())

    def _begin(self, state: State) -> Array:
        shape = tuple(self._size(state, size) for size in state.shape)
        if state.name in self._first:
            return self._content(state, shape).copy()
        return np.zeros(shape, numpy_dtypes(state.dtype)[0])

    def _content(self, state: State, shape: tuple[int, ...]) -> Array:
        return np.frombuffer(self._first[state.name], numpy_dtypes(state.dtype)[0]).reshape(shape)

    def _size(self, state: State, size: int | str) -> int:
        if isinstance(size, int):
            return size
        try:
            return evaluate_text(size, self._sizes)
        except ValueError:
            known = ", ".join(f"{s.name}=..." for s in self._manifest.symbols)
            raise RunError(
                "E0519",
                f"the size of state '{state.name}' cannot be told",
                (("size", size), ("given", self._sizes or "nothing")),
                f"program.session({known})",
            ) from None

    def _check_sizes(self) -> None:
        symbols = {s.name: s for s in self._manifest.symbols}
        for name, given in self._sizes.items():
            if name not in symbols:
                known = ", ".join(symbols) or "none"
                raise RunError("E0519", f"there is no size '{name}'", (("known", known),))
            if not symbols[name].lo <= given <= symbols[name].hi:
                raise RunError(
                    "E0519",
                    f"size '{name}' is out of range",
                    (("given", given), ("range", f"{symbols[name].lo}..{symbols[name].hi}")),
                    "stay inside of it, or compile with a wider --dim",
                )
