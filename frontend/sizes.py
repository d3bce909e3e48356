"""Sizes that figures are for, where a model leaves them open."""

from collections.abc import Collection, Iterable, Mapping

from tapeout.ir.errors import CompileError

FREE_SIZE = 128
"""What an open size is taken to be when nobody says, within its range."""

Limits = tuple[str, int, int | None]
"""A symbol: its name, its least value, its greatest (None: no limit)."""


def choose(
    symbols: Iterable[Limits], first_axes: Collection[str], given: Mapping[str, int]
) -> dict[str, int]:
    """A value for every symbol: as given; else 1 for a batch, which is what first axes are taken
    for, and 128 for others, within the range.

    E0103 for a name that is no symbol, and for a value outside its range.
    """
    chosen: dict[str, int] = {}
    for name, lo, hi in symbols:
        free = 1 if name in first_axes else FREE_SIZE
        chosen[name] = given.get(name, max(lo, free if hi is None else min(hi, free)))
        if not (lo <= chosen[name] and (hi is None or chosen[name] <= hi)):
            limits = f"{lo} to {'no limit' if hi is None else hi}"
            facts = [("given", chosen[name]), ("range", limits)]
            raise CompileError("E0103", f"dimension '{name}' is outside its range", facts)
    for name in given:
        if name not in chosen:
            facts = [("where", "--at"), ("known", ", ".join(sorted(chosen)) or "none")]
            raise CompileError("E0103", f"there is no dimension '{name}'", facts)
    return chosen
