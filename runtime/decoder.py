"""What a program that decodes tells its sessions: sizes, states, exits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tapeout.runtime.dtypes import numpy_dtypes
from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import Manifest
from tapeout.runtime.pages import TURNED
from tapeout.runtime.sequence import ALL
from tapeout.runtime.tensors import Array

Run = Callable[[Mapping[str, Any], Mapping[str, Array]], dict[str, Array]]
"""Runs a program once on inputs and on states, which it changes in place."""

INPUTS = ("ids", "positions", "rows")
"""What a program takes that is a step of a language model, beside where things are kept."""
PAGED = (TURNED, "values.")
RECURRENT = ("recall.", "scan.")
"""How the names of states begin: of pages that sequences share, and of a row for each sequence."""
STAY = "stay_"
"""How the inputs begin that say which tokens go on behind an exit, by its number."""
LINES = 64
"""Slots of a page, where no layer attends."""


def is_decoder(manifest: Manifest) -> bool:
    """Whether a program is a step of a language model that keeps its state as sessions do."""
    states = [s.name for s in manifest.states]
    known = all(name.startswith((*PAGED, *RECURRENT)) for name in states)
    return bool(states) and known and {p.name for p in manifest.inputs} >= set(INPUTS)


class Decoder:
    """What the sessions of one program know of it."""

    def __init__(self, run: Run, manifest: Manifest) -> None:
        """Read sizes from the manifest's shapes."""
        self.run, self.manifest = run, manifest
        self.inputs = {port.name for port in manifest.inputs}
        keys = [s for s in manifest.states if s.name.startswith(TURNED)]
        self.page = int(keys[0].shape[3]) if keys else LINES
        limits = {s.name: s.hi for s in manifest.symbols}
        tokens = next(p for p in manifest.inputs if p.name == "ids").shape[0]
        self.most = tokens if isinstance(tokens, int) else limits[tokens]
        self.vocabulary = int(manifest.outputs[0].shape[1])
        columns = [p.shape[1] for p in manifest.inputs if p.name == "table"]
        most = [n if isinstance(n, int) else limits[n] for n in columns]
        self.context = most[0] * self.page if most else None
        self.others = [port.name for port in manifest.outputs[1:]]
        named = [name for name in self.inputs if name.startswith(STAY)]
        self.exits = sorted(int(name.removeprefix(STAY)) for name in named)

    def pools(self, pages: int) -> dict[str, Array]:
        """Zeroed pools of all layers that attend."""
        return self._zeros(PAGED, pages)

    def rows(self, batch: int) -> dict[str, Array]:
        """Zeroed states of all recurrent layers."""
        return self._zeros(RECURRENT, batch)

    def depth(self, exit: int | None) -> int:
        """Layers up to an exit; E0526 for one that the program does not have."""
        if exit is None or exit in self.exits:
            return ALL if exit is None else exit
        raise RunError(
            "E0526",
            f"the program has no exit {exit}",
            (("exits", ", ".join(map(str, self.exits)) or "none"),),
            "compile with exits=[...], numbers of layers",
        )

    def _zeros(self, kinds: tuple[str, ...], count: int) -> dict[str, Array]:
        return {
            s.name: np.zeros((count, *map(int, s.shape[1:])), numpy_dtypes(s.dtype)[0])
            for s in self.manifest.states
            if s.name.startswith(kinds)
        }
