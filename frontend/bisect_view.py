"""How ``bisect`` prints what it found: a table for each question."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from tapeout.frontend.agreement import Difference
from tapeout.frontend.bisect import Bisection
from tapeout.frontend.bisect_kernels import KernelRow
from tapeout.frontend.bisect_passes import LayerRow, PassRow
from tapeout.frontend.terminal import seconds_text
from tapeout.ir.errors import printable

SHOWN = 20
"""Rows of a table; the worst of more."""

NAME_WIDTH = 30
"""Characters of a weight's name."""

RowT = TypeVar("RowT")


def show(found: Bisection, out: Console) -> None:
    """Print what was found, but not the coded errors."""
    out.print(f"device   cpu:{found.device}")
    out.print(f"inputs   {found.source}")
    # A table's own title would be folded to the table's width.
    out.print("\noutputs after each pass, against the module before it changed")
    out.print(_passes(found.passes.rows))
    if found.passes.layers:
        out.print("\nwhat rounding costs each layer (measured, on these inputs)")
        out.print(_layers(found.passes.layers))
    if found.kernels.rows:
        out.print("\nkernels of the compiled program, each on the operands that it got")
        out.print(_kernels(found.kernels.rows))
    out.print("\noutputs of the compiled program, against the model as imported")
    out.print(_outputs(found))
    first = found.kernels.first
    if not found.errors:
        out.print("result   nothing parts")
        return
    for row in found.passes.rows:
        if row.parts:
            out.print(f"result   the pass {row.name} parts")
    if first is not None:
        out.print(f"result   the kernel {first.kernel} parts, call {first.call}")
    if any(each.parts for each in found.plain.values()):
        out.print("result   the program parts where no kernel does")


def _passes(rows: Sequence[PassRow]) -> Table:
    table = _table("pass", "took")
    for row in rows:
        cells = [row.name, seconds_text(row.seconds)]
        if row.difference is None:
            table.add_row(*cells, "", "", "unchanged")
        else:
            table.add_row(*cells, *_error(row.difference), _verdict(row))
    return table


def _verdict(row: PassRow) -> str:
    if row.asked or row.parts:
        return "asked for" if row.asked else "parts"
    return "rounding, amplified" if row.moves else ""


def _layers(rows: Sequence[LayerRow]) -> Table:
    table = Table("layer")
    for head in ("own error", "own SQNR dB", "SQNR dB so far"):
        table.add_column(head, justify="right")
    for row in _worst(rows, lambda row: -row.own.sqnr_db):
        table.add_row(printable(row.name), *_error(row.own), _decibels(row.so_far))
    return _with_rest(table, rows)


def _kernels(rows: Sequence[KernelRow]) -> Table:
    table = _table("kernel", "weights")
    for row in _worst(rows, lambda row: row.difference.excess):
        verdict = "parts" if row.difference.parts else ""
        name = f"{row.call} {row.kernel}"
        table.add_row(name, printable(_weights(row)), *_error(row.difference), verdict)
    return _with_rest(table, rows)


def _weights(row: KernelRow) -> str:
    """The first weight; names that grow long are alike at their front."""
    if not row.weights:
        return ""
    first = row.weights[0]
    shown = first if len(first) <= NAME_WIDTH else f"…{first[1 - NAME_WIDTH :]}"
    more = f" +{len(row.weights) - 1}" if row.weights[1:] else ""
    return f"{'' if row.has_weights else 'after '}{shown}{more}"


def _outputs(found: Bisection) -> Table:
    table = Table("output")
    for head in ("error", "SQNR dB"):
        table.add_column(head, justify="right")
    for name, each in found.outputs.items():
        table.add_row(printable(name), *_error(each))
    return table


def _table(*heads: str) -> Table:
    table = Table(*heads)
    for head in ("error", "SQNR dB"):
        table.add_column(head, justify="right")
    table.add_column("")
    return table


def _with_rest(table: Table, rows: Sequence[object]) -> Table:
    if len(rows) > SHOWN:
        table.add_section()
        table.add_row(f"{len(rows) - SHOWN} more, better ones")
    return table


def _worst(rows: Sequence[RowT], badness: Callable[[RowT], float]) -> list[RowT]:
    """The worst rows, in the order that they stand in."""
    order = sorted(range(len(rows)), key=lambda i: -badness(rows[i]))
    return [rows[i] for i in sorted(order[:SHOWN])]


def _error(of: Difference) -> tuple[str, str]:
    """The error relative to the largest magnitude of the reference, and the SQNR."""
    return f"{of.relative:.1e}" if of.error else "0", _decibels(of)


def _decibels(of: Difference) -> str:
    return f"{of.sqnr_db:.1f}" if of.error else "equal"
