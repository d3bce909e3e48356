"""The C file that ties the kernels together: tables for the runtime, sizes, and the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tapeout.ir.expr import Expr, as_symbol
from tapeout.ir.guards import Guard
from tapeout.passes.memory.arena import Arena
from tapeout.passes.memory.steps import Plan
from tapeout.targets.host.guards import TOO_LARGE, check_lines, counts
from tapeout.targets.host.interface import NO_UPPER, Interface, Port, limits
from tapeout.targets.host.steps import StepPrinter, helpers
from tapeout.targets.host.text import c_size, c_string, dim_name


class HostKernel(Protocol):
    """What the program around a kernel knows of it."""

    @property
    def name(self) -> str:
        """The C function that runs it."""
        ...

    @property
    def scratch_bytes(self) -> int:
        """Bytes of memory of its own that each thread needs for it."""
        ...

    @property
    def extra(self) -> Sequence[Expr]:
        """Bytes of the buffers that it takes behind its operands and results."""
        ...


def emit_model(
    plan: Plan,
    face: Interface,
    kernels: Sequence[HostKernel],
    arena: Arena | None,
    weight_offsets: Mapping[str, int],
    weight_bytes: int,
) -> str:
    """``model.c``. ``arena`` is None when sizes are symbolic and planned at run time."""
    printer = StepPrinter(face, {k.name: i for i, k in enumerate(kernels)}, weight_offsets)
    parts = [
        "/* The model: its interface, its memory, its steps. */",
        '#include "rt.h"',
        "",
        *(f"void RT_NAME({k.name})(rt_session *s, void *const *b);" for k in kernels),
        "",
        *_ports("input", face.inputs, face.input_slot),
        *_ports("output", face.outputs, face.slot),
        *_symbols(face),
        "static const char *const kernel_names[] = {"
        + ", ".join(f'"{k.name}"' for k in kernels)
        + "};"
        if kernels
        else "static const char *const kernel_names[] = {0};",
        "",
        *_arena(plan, arena, face),
        *([TOO_LARGE] if any(map(counts, plan.checked())) else []),
        *_derive(face, plan.guards),
        helpers(plan.steps),
        "static int execute(rt_session *s)",
        "{",
        "  int64_t t;",
        "  int code;",
        "  (void)t, (void)code;",
        *printer.lines(plan.steps),
        "  return 0;",
        "}",
        "",
        *_table(plan, face, kernels, arena, weight_bytes),
    ]
    return "\n".join(parts) + "\n"


def _ports(kind: str, ports: Sequence[Port], slot: Callable[[Expr], int]) -> list[str]:
    lines: list[str] = []
    for i, (_, t) in enumerate(ports):
        axes = ", ".join(_axis(d, slot) for d in t.dims) or "{0, 0, 0}"
        lines.append(f"static const tapeout_axis {kind}{i}_axes[] = {{{axes}}};")
    rows = [
        f"  {{{c_string(name)}, TAPEOUT_{t.dtype.name.upper()}, {t.rank}, {kind}{i}_axes}},"
        for i, (name, t) in enumerate(ports)
    ]
    empty = "  {0, 0, 0, 0},"
    return [*lines, f"static const tapeout_port {kind}s[] = {{", *(rows or [empty]), "};", ""]


def _axis(dim: Expr, slot: Callable[[Expr], int]) -> str:
    if dim.constant is not None:
        return f"{{{dim.constant}, 0, 0}}"
    return f"{{-1, {slot(dim)}, {c_string(str(dim))}}}"


def _symbols(face: Interface) -> list[str]:
    rows = [
        f"  {{{c_string(str(e))}, {low}, INT64_C({high})}},"
        for e in face.bound
        for low, high in [limits(e)]
    ]
    return ["static const tapeout_symbol symbols[] = {", *(rows or ["  {0, 0, 0},"]), "};", ""]


def _dims(face: Interface) -> list[str]:
    """Locals for the symbols that are known before the steps run."""
    names = [n for n, _, _ in face.symbols]
    return [
        *(f"  const int64_t {dim_name(n)} = s->dims[{face.slots[n]}];" for n in names),
        *(f"  (void){dim_name(n)};" for n in names),
    ]


def _names(face: Interface) -> dict[str, str]:
    return {n: dim_name(n) for n, _, _ in face.symbols}


def _derive(face: Interface, guards: Sequence[Guard]) -> list[str]:
    """Symbols that only expressions show, checks of those expressions, guards, output sizes."""
    if not _derives(face, guards):
        return []
    early = {n: f"s->dims[{i}]" for n, i in face.slots.items()}
    solve: list[str] = []
    for solved in face.solved:
        axis, name = face.input_slot(solved.axis), solved.symbol.name
        value = f"rt_sub(s->dims[{axis}], {c_size(solved.rest, early)})"
        solve.append(f"  s->dims[{face.slots[name]}] = rt_div({value}, {solved.factor});")
    checks = [
        line
        for i, axis in enumerate(face.bound)
        if as_symbol(axis) is None
        for line in _agreement(f"s->dims[{i}]", c_size(axis, _names(face)), str(axis))
    ]
    ranges = [
        line
        for name, low, high in face.symbols[len(face.symbols) - len(face.solved) :]
        for line in _range(dim_name(name), low, high, name)
    ]
    names, places = _names(face), face.places
    held = ["  " + line for g in guards for line in check_lines(g, False, names, places)]
    first = len(face.bound) + len(face.solved)
    sizes: list[str] = []
    for i, size in enumerate(face.derived):
        sizes.append(f"  s->dims[{first + i}] = {c_size(size, _names(face))};")
        sizes += _range(f"s->dims[{first + i}]", 0, NO_UPPER, str(size))
    return [
        "static int derive(rt_session *s)", "{", *solve, *_dims(face), *checks, *ranges,
        *held, *sizes,
        "  return 0;", "}", "",
    ]  # fmt: skip


def _derives(face: Interface, guards: Sequence[Guard]) -> bool:
    """Whether there is anything to compute or check between binding and running."""
    return bool(
        guards
        or face.solved
        or face.derived
        or len(face.bound) + len(face.solved) > len(face.symbols)
    )


def _agreement(have: str, want: str, axis: str) -> list[str]:
    return [
        f"  if ({have} != {want})",
        "    return rt_fail(s, RT_E_CONSTRAINT,",
        '                   "the sizes of the inputs do not fit together\\n"',
        '                   "  axis: %s\\n  expected: %lld\\n  got: %lld",',
        f"                   {c_string(axis)}, (long long)({want}), (long long){have});",
    ]


def _range(value: str, low: int, high: int, what: str) -> list[str]:
    return [
        f"  if ({value} < {low} || {value} > INT64_C({high}))",
        "    return rt_fail(s, RT_E_CONSTRAINT,",
        '                   "the sizes of the inputs lead to a size that is out of range\\n"',
        '                   "  size: %s\\n  expected: %lld to %lld\\n  got: %lld",',
        f"                   {c_string(what)}, (long long){low}, (long long)INT64_C({high}),",
        f"                   (long long){value});",
    ]


def _arena(plan: Plan, arena: Arena | None, face: Interface) -> list[str]:
    if not plan.arena:
        return []
    lives = ", ".join(f"{{{b.first}, {b.last}}}" for b in plan.arena)
    lines = [f"static const rt_life lives[] = {{{lives}}};"]
    if arena is not None:
        offsets = ", ".join(map(str, arena.offsets))
        return [*lines, f"static const int64_t offsets[] = {{{offsets}}};", ""]
    names = {**_names(face), "_threads": "s->threads"}
    rows = [f"  bytes[{b.number}] = {c_size(b.bytes, names)};" for b in plan.arena]
    return [
        *lines, "",
        "static void sizes(const rt_session *s, int64_t *bytes)", "{", *_dims(face), *rows, "}", "",
    ]  # fmt: skip


def _table(
    plan: Plan, face: Interface, kernels: Sequence[HostKernel], arena: Arena | None, weights: int
) -> list[str]:
    scratch = max((k.scratch_bytes for k in kernels), default=0)
    info = [
        ".abi = TAPEOUT_ABI",
        f".inputs = {len(face.inputs)}",
        f".states = {face.states}",
        f".outputs = {len(face.outputs)}",
        f".symbols = {len(face.bound)}",
        f".kernels = {len(kernels)}",
        ".input = inputs",
        ".output = outputs",
        ".symbol = symbols",
        ".kernel = kernel_names",
        f".weights_bytes = {weights}",
    ]
    derived = len(face.solved) + len(face.derived)
    rows = [f"    .info = {{{', '.join(info)}}}", f"    .derived = {derived}"]
    if _derives(face, plan.guards):
        rows.append("    .derive = derive")
    rows += [f"    .late_dims = {face.late_dims}", f"    .late = {plan.late}"]
    if plan.arena:
        rows += [f"    .buffers = {len(plan.arena)}", "    .lives = lives"]
        if arena is not None:
            rows += ["    .offsets = offsets", f"    .arena_bytes = {arena.bytes}"]
        else:
            rows.append("    .sizes = sizes")
    rows += [f"    .scratch_bytes = {scratch}", "    .execute = execute"]
    return ["const rt_model RT_NAME(model) = {", ",\n".join(rows) + ",", "};"]
