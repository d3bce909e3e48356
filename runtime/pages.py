"""Pages of a key-value cache: which are free, who shares them, copies before a write."""

from __future__ import annotations

from collections.abc import Mapping

from tapeout.runtime.errors import RunError
from tapeout.runtime.tensors import Array

TURNED = "keys."
"""How the names of pools begin that are ``[P, G, D, N]``; the others are ``[P, G, N, E]``."""


class Pages:
    """The pools of all layers, ``[pages, ...]`` each, and how many sequences hold each page."""

    def __init__(self, pools: Mapping[str, Array], count: int) -> None:
        """All pages are free."""
        self.pools = dict(pools)
        self.holders = [0] * count
        self._free = list(range(count - 1, -1, -1))

    @property
    def bytes(self) -> int:
        """Memory of all pools."""
        return sum(pool.nbytes for pool in self.pools.values())

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """Hold a free page; E0520 when there is none."""
        if not self._free:
            raise RunError(
                "E0520",
                "the cache is full",
                (("pages", len(self.holders)),),
                "begin the session with more: program.session(..., pages=N)",
            )
        page = self._free.pop()
        self.holders[page] = 1
        return page

    def share(self, page: int) -> int:
        """Hold a page that somebody holds already."""
        self.holders[page] += 1
        return page

    def drop(self, page: int) -> None:
        """Hold a page no more."""
        self.holders[page] -= 1
        if self.holders[page] == 0:
            self._free.append(page)

    def move(self, source: Array, target: Array) -> None:
        """Copy what stands at some slots to others; all are read before any is written."""
        for name, pool in self.pools.items():
            lines = pool.swapaxes(2, 3) if name.startswith(TURNED) else pool
            page = lines.shape[2]
            kept = lines[source // page, :, source % page]
            lines[target // page, :, target % page] = kept

    def own(self, page: int) -> int:
        """The page, or, where others hold it too, a copy of it that they do not see."""
        if self.holders[page] == 1:
            return page
        mine = self.take()
        for pool in self.pools.values():
            pool[mine] = pool[page]
        self.holders[page] -= 1
        return mine
