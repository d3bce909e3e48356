"""The least time of each kernel: counted work against the two ceilings of a core, or of a GPU."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tapeout.frontend.terminal import scaled, seconds_text
from tapeout.ir.dtypes import f32, i8
from tapeout.targets.choice import Choice

SHOWN = 15
"""Kernels with a row of their own; the others share one."""


@dataclass(frozen=True)
class Ceilings:
    """1e9 operations in f32 and on bytes, and 1e9 bytes of main memory, per second; ``source``."""

    gflops: float
    byte_gops: float
    gb_per_s: float
    source: str
    unit: str = "one core"

    @classmethod
    def of(cls, chosen: Choice) -> "Ceilings":
        """Those of the best device, as its table has them."""
        rates = chosen.rates
        products = rates.products
        return cls(products[f32], products[i8], rates.bytes, rates.source, chosen.unit)


@dataclass(frozen=True)
class Work:
    """What calls of one kernel compute, and move in and out of it.

    ``byte_ops``: those of the operations that are products of bytes.
    """

    kernel: str
    calls: int
    flops: int
    byte_ops: int
    bytes: int

    def __add__(self, other: "Work") -> "Work":
        return Work(
            *(self.kernel, self.calls + other.calls, self.flops + other.flops),
            *(self.byte_ops + other.byte_ops, self.bytes + other.bytes),
        )

    def limits(self, by: Ceilings) -> tuple[float, str]:
        """Seconds, and which ceiling they come from."""
        floats = self.flops - self.byte_ops
        compute = floats / by.gflops / 1e9 + self.byte_ops / by.byte_gops / 1e9
        memory = self.bytes / by.gb_per_s / 1e9
        return (compute, "compute") if compute > memory else (memory, "memory")


def works(calls: Iterable[Work]) -> list[Work]:
    """All calls of each kernel together."""
    found: dict[str, Work] = {}
    for call in calls:
        known = found.get(call.kernel)
        found[call.kernel] = call if known is None else known + call
    return list(found.values())


def show(calls: Iterable[Work], by: Ceilings, out: Console) -> None:
    """Print a row per kernel, the longest first, and their sum."""
    rows = sorted(works(calls), key=lambda work: -work.limits(by)[0])
    table = Table("kernel", title="least time per kernel (modelled)", title_justify="left")
    for head in ("calls", "flop", "bytes", "least time", "share"):
        table.add_column(head, justify="right")
    table.add_column("limit")
    total = sum(work.limits(by)[0] for work in rows)
    for work in rows[:SHOWN]:
        _add(table, work.kernel, [work], by, total, work.limits(by)[1])
    if rows[SHOWN:]:
        _add(table, f"{len(rows) - SHOWN} more", rows[SHOWN:], by, total)
    table.add_section()
    _add(table, "all", rows, by, total)
    out.print(table)
    out.print(
        f"time     {seconds_text(total)} at least (modelled: {by.unit}, operands from memory)"
    )
    on_bytes = f"{by.byte_gops:g} GOP/s on bytes, " if any(w.byte_ops for w in rows) else ""
    out.print(f"at       {by.gflops:g} GFLOP/s, {on_bytes}{by.gb_per_s:g} GB/s ({by.source})")


def _add(
    table: Table, name: str, rows: Sequence[Work], by: Ceilings, total: float, limit: str = ""
) -> None:
    seconds = sum(work.limits(by)[0] for work in rows)
    calls = str(sum(work.calls for work in rows))
    flops, moved = sum(work.flops for work in rows), sum(work.bytes for work in rows)
    share = f"{seconds / total:.0%}" if total else ""
    cells = (calls, scaled(flops, "flop"), scaled(moved, "B"), seconds_text(seconds), share)
    table.add_row(name, *cells, limit)
