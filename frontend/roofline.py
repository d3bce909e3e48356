"""The least time of each kernel on one core: counted work against a machine's two ceilings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tapeout.frontend.terminal import scaled, seconds_text
from tapeout.targets.cpu.device import Device

SHOWN = 15
"""Kernels with a row of their own; the others share one."""


@dataclass(frozen=True)
class Ceilings:
    """1e9 operations in f32, and 1e9 bytes of main memory, per second; ``source`` of both."""

    gflops: float
    gb_per_s: float
    source: str

    @classmethod
    def of(cls, device: Device) -> "Ceilings":
        """Those of one core, as the device's table has them."""
        source = f"cpu:{device.name}, {device.sources['ceilings']}"
        return cls(device.f32_gflop_per_s_per_core, device.memory_gb_per_s_per_core, source)


@dataclass(frozen=True)
class Work:
    """What all calls of one kernel compute, and move in and out of it."""

    kernel: str
    calls: int
    flops: int
    bytes: int

    def limits(self, by: Ceilings) -> tuple[float, str]:
        """Seconds, and which ceiling they come from."""
        compute, memory = self.flops / by.gflops / 1e9, self.bytes / by.gb_per_s / 1e9
        return (compute, "compute") if compute > memory else (memory, "memory")


def works(calls: Iterable[tuple[str, int, int]]) -> list[Work]:
    """Kernels by name from (name, flops, bytes) of each call."""
    count: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    for name, f, b in calls:
        count[name] += 1
        flops[name] += f
        moved[name] += b
    return [Work(name, n, flops[name], moved[name]) for name, n in count.items()]


def show(calls: Iterable[tuple[str, int, int]], by: Ceilings, out: Console) -> None:
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
    out.print(f"time     {seconds_text(total)} at least (modelled: one core, operands from memory)")
    out.print(f"at       {by.gflops:g} GFLOP/s, {by.gb_per_s:g} GB/s ({by.source})")


def _add(
    table: Table, name: str, rows: Sequence[Work], by: Ceilings, total: float, limit: str = ""
) -> None:
    seconds = sum(work.limits(by)[0] for work in rows)
    calls = str(sum(work.calls for work in rows))
    flops, moved = sum(work.flops for work in rows), sum(work.bytes for work in rows)
    share = f"{seconds / total:.0%}" if total else ""
    cells = (calls, scaled(flops, "flop"), scaled(moved, "B"), seconds_text(seconds), share)
    table.add_row(name, *cells, limit)
