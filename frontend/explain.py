"""``explain``: what stands between a model and a target, and what the model costs, before work."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tapeout.frontend import driver, layer_report, roofline
from tapeout.frontend.calibration import Source
from tapeout.frontend.layer_report import LayerReport
from tapeout.frontend.module_sizes import sizes_of, symbols_of
from tapeout.frontend.quantizing import Quantizing, quantizing
from tapeout.frontend.roofline import Ceilings, Work
from tapeout.frontend.terminal import scaled
from tapeout.ir.cost import bytes_moved, kernel_cost
from tapeout.ir.errors import CompileError, together
from tapeout.ir.expr import Symbol, as_expr
from tapeout.ir.guards import Guard, guards
from tapeout.ir.module import Module
from tapeout.ir.numeric import is_byte
from tapeout.ir.op import NNOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.source import ConstantOp, WeightOp
from tapeout.ir.ops.structure import CallOp, EntryOp, KernelOp
from tapeout.ir.types import Spec, spec, specs
from tapeout.passes.memory.plan import make_plan
from tapeout.targets.choice import Choice


@dataclass(frozen=True)
class Row:
    """All operators of one kind: floating-point operations, and bytes as if none were fused."""

    kind: str
    count: int
    flops: int
    bytes: int


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found; ``at`` holds the sizes that the figures are for."""

    devices: Sequence[str]
    inputs: Sequence[tuple[str, Spec]]
    outputs: Sequence[tuple[str, Spec]]
    symbols: Sequence[Symbol]
    at: Mapping[str, int]
    rows: Sequence[Row]
    kernels: int
    calls: Sequence[Work]
    """Every kernel call."""
    ceilings: Ceilings
    """Those of the best device."""
    weight_bytes: int
    guards: Sequence[Guard]
    """What must hold between the sizes of a run, where the run comes by."""
    layers: Sequence[LayerReport]
    """What layers become where they are to be quantised."""


def explain(
    model: Path,
    target: str,
    dims: driver.Dims | None,
    at: Mapping[str, int],
    note: driver.Note,
    quantize: str | None = None,
    calibrate: Source | None = None,
    cache: driver.Cache = "auto",
) -> Explanation:
    """Look at a model for a target without building it, quantised as compile would have it.

    Raises CompileError with everything that will not compile, each with its fix.
    """
    chosen = driver.choice(target)
    module = driver.import_any(model, dims, note, decoding=driver.Decoding(cache))
    told: list[LayerReport] = []
    wish = Quantizing(quantize, calibrate, at=at, tell=told.append)
    driver.lower(module, requested=quantizing(module, chosen, wish, note), note=note)
    note("lowering kernels")
    refuse(module, chosen)
    return _explanation(module, chosen, at, told)


def refuse(module: Module, chosen: Choice) -> None:
    """Raise every reason for which a lowered module cannot be built."""
    found: dict[str, CompileError] = {}
    entry = next(iter(module.entries()))
    for check in (partial(make_plan, module, entry, {}), *chosen.checks(module)):
        try:
            check()
        except CompileError as error:
            found.setdefault(str(error), error)
    if found:
        raise together(list(found.values()), "the model will not compile for this target")


def _explanation(
    module: Module,
    chosen: Choice,
    at: Mapping[str, int],
    told: Sequence[LayerReport],
) -> Explanation:
    entry = next(iter(module.entries()))
    kernels = module.kernels()
    names = [op.callee.data for op in entry.walk() if isinstance(op, CallOp)]
    sizes = sizes_of(module, entry, at)
    return Explanation(
        chosen.labels,
        list(zip(entry.inputs.data, specs(entry.body.block.args), strict=True)),
        list(zip(entry.outputs.data, (spec(v) for v in entry.returned), strict=True)),
        symbols_of(module),
        sizes,
        _rows([kernels[name] for name in names], sizes),
        len(kernels),
        [_work(kernels[name], sizes) for name in names],
        Ceilings.of(chosen),
        sum(_weights(entry)),
        guards(module, entry.sym_name.data),
        told,
    )


def _rows(calls: Iterable[KernelOp], at: Mapping[str, int]) -> list[Row]:
    count: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    for kernel in calls:
        for op in kernel.walk():
            if isinstance(op, NNOp) and not isinstance(op, ConstantOp | WeightOp):
                kind = op.name.removeprefix("nn.")
                count[kind] += 1
                flops[kind] += as_expr(op.flops()).evaluate(at)
                moved[kind] += bytes_moved(op).evaluate(at)
    rows = [Row(kind, count[kind], flops[kind], moved[kind]) for kind in count]
    return sorted(rows, key=lambda row: (-row.flops, -row.bytes, row.kind))


def _work(kernel: KernelOp, at: Mapping[str, int]) -> Work:
    cost = kernel_cost(kernel)
    flops, moved = cost.flops.evaluate(at), cost.bytes.evaluate(at)
    products = [op for op in kernel.walk() if isinstance(op, NNOp) and _is_of_bytes(op)]
    byte_ops = sum(as_expr(op.flops()).evaluate(at) for op in products)
    return Work(kernel.sym_name.data, 1, flops, byte_ops, moved)


def _is_of_bytes(op: NNOp) -> bool:
    """Whether an operator is a product of bytes."""
    product = isinstance(op, MatmulOp | ConvOp) and is_byte(spec(op.operands[0]).dtype)
    return product or isinstance(op, GroupedMatmulOp | ExpertGroupedMatmulOp)


def _weights(entry: EntryOp) -> Iterator[int]:
    seen: set[str] = set()
    for op in entry.walk():
        if isinstance(op, WeightOp) and op.symbol.data not in seen:
            seen.add(op.symbol.data)
            yield spec(op.y).bytes.evaluate({})


def show(found: Explanation, out: Console, ceilings: Ceilings | None = None) -> None:
    """Print an explanation, with these ceilings in place of the device's."""
    out.print(f"target   {', '.join(found.devices)}: compiles")
    for label, ports in (("input", found.inputs), ("output", found.outputs)):
        for name, of in ports:
            out.print(f"{label:8} {name}: {of.dtype}[{', '.join(map(str, of.dims))}]")
    for s in found.symbols:
        hi = "no limit; --dim gives one" if s.hi is None else s.hi
        out.print(f"size     {s.name}: {s.lo} to {hi}")
    for each in found.guards:
        out.print(f"needs    {each.text}, for {each.where}: checked at run time", markup=False)
    out.print(_table(found))
    moved = sum(work.bytes for work in found.calls)
    kernels = f"{len(found.calls)} calls of {found.kernels} kernels"
    out.print(f"kernels  {kernels}; {scaled(moved, 'B')} in and out of them after fusion")
    out.print(f"weights  {scaled(found.weight_bytes, 'B')}")
    roofline.show(found.calls, ceilings or found.ceilings, out)
    for report in found.layers:
        layer_report.show(report, out)


def _table(found: Explanation) -> Table:
    sizes = " ".join(f"{name}={value}" for name, value in found.at.items())
    table = Table("operator", title=f"work at {sizes}" if sizes else "work", title_justify="left")
    for head in ("count", "flop", "bytes unfused"):
        table.add_column(head, justify="right")
    for row in found.rows:
        table.add_row(row.kind, str(row.count), *_amounts(row.flops, row.bytes))
    total = (sum(r.flops for r in found.rows), sum(r.bytes for r in found.rows))
    table.add_section()
    table.add_row("all", str(sum(r.count for r in found.rows)), *_amounts(*total))
    return table


def _amounts(flops: int, moved: int) -> tuple[str, str]:
    return scaled(flops, "flop"), scaled(moved, "B")
