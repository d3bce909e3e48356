"""The C file that ties the kernels together: tables for the runtime, sizes, and the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeout.ir.expr import Expr, as_symbol
from tapeout.ir.ops.structure import EntryOp
from tapeout.ir.types import Spec, spec, specs
from tapeout.passes.memory.arena import Arena
from tapeout.passes.memory.plan import Buffer, CopyStep, KernelStep, Plan
from tapeout.targets.cpu.emit.kernel import KernelText, d_name
from tapeout.targets.cpu.emit.text import c_expr

MODEL_H = """\
/* What every kernel of this model includes. */
#ifndef MODEL_H
#define MODEL_H

#include "rt.h"
#include "vec.h"
#include "vmath.h"
#include "vint.h"
#include "cvt.h"
#include "half.h"
#include "libm.h"
#include "support.h"

typedef struct to_call {
  rt_session *session;
  void *const *buffers;
} to_call;

/* Operations below which waking other threads costs more than it saves. */
#define TO_LEAST_WORK 30000

/* Run all tasks, on all threads when the work is worth it. */
static inline void to_run(rt_session *s, rt_task *task, void *call, i64 tasks, i64 work) {
  if (work < TO_LEAST_WORK) {
    if (tasks > 0) task(call, 0, tasks, 0);
  } else {
    rt_parallel(s, task, call, tasks);
  }
}

%s
#endif
"""

NO_UPPER = 2**62


@dataclass(frozen=True)
class Interface:
    """Names, types and symbols of one entry, and the slots of ``session->dims``."""

    inputs: tuple[tuple[str, Spec], ...]
    outputs: tuple[tuple[str, Spec], ...]
    symbols: tuple[tuple[str, int, int], ...]
    derived: tuple[Expr, ...]

    @property
    def slots(self) -> dict[str, int]:
        """The slot of each symbol by name."""
        return {name: i for i, (name, _, _) in enumerate(self.symbols)}

    def slot(self, dim: Expr) -> int:
        """The slot of a dimension that is not constant."""
        bare = as_symbol(dim)
        if bare is not None:
            return self.slots[bare.name]
        return len(self.symbols) + self.derived.index(dim)


def interface_of(entry: EntryOp) -> Interface:
    """Collect the interface of an entry."""
    inputs = tuple(zip(entry.inputs.data, specs(entry.body.block.args), strict=True))
    outputs = tuple(zip(entry.outputs.data, (spec(v) for v in entry.returned), strict=True))
    found = {s for _, t in inputs for d in t.dims for s in d.symbols()}
    symbols = sorted(found, key=lambda s: s.name)
    table: list[tuple[str, int, int]] = []
    for s in symbols:
        assert not isinstance(s.hi, Expr), f"{s} is a dimension, its range is constant"
        table.append((s.name, s.lo, NO_UPPER if s.hi is None else s.hi))
    derived = [
        d for _, t in outputs for d in t.dims if d.constant is None and as_symbol(d) is None
    ]
    return Interface(inputs, outputs, tuple(table), tuple(dict.fromkeys(derived)))


def emit_model_h(kernels: Sequence[KernelText]) -> str:
    """The header with a prototype of each kernel."""
    lines = [f"void RT_NAME({k.name})(rt_session *s, void *const *b);" for k in kernels]
    return MODEL_H % "\n".join([*lines, ""])


def emit_model(
    plan: Plan,
    face: Interface,
    kernels: Sequence[KernelText],
    arena: Arena | None,
    weight_offsets: Mapping[str, int],
    weight_bytes: int,
) -> str:
    """``model.c``. ``arena`` is None when sizes are symbolic and planned at run time."""
    steps = [_step(s, plan, kernels, weight_offsets) for s in plan.steps]
    parts = [
        "/* The model: its interface, its memory, its steps. */",
        '#include "model.h"',
        "#include <string.h>",
        "",
        *_ports("input", face.inputs, face),
        *_ports("output", face.outputs, face),
        *_symbols(face),
        "static const char *const kernel_names[] = {"
        + ", ".join(f'"{k.name}"' for k in kernels)
        + "};"
        if kernels
        else "static const char *const kernel_names[] = {0};",
        "",
        *_arena(plan, arena, face),
        *_derive(face),
        "static int execute(rt_session *s)",
        "{",
        "  int64_t t;",
        "  (void)t;",
        *steps,
        "  return 0;",
        "}",
        "",
        *_table(plan, face, kernels, arena, weight_bytes),
    ]
    return "\n".join(parts) + "\n"


def c_string(text: str) -> str:
    """Any text as a C string literal of printable ASCII; nothing in it can end the literal."""
    out: list[str] = []
    for byte in text.encode("utf-8", "surrogatepass"):
        c = chr(byte)
        plain = c.isalnum() and byte < 128 or c in " _-.,:;/+*()[]<>=!#@"
        out.append(c if plain else f"\\{byte:03o}")
    # Two question marks in a row would be a trigraph to some compilers: "?" is always escaped.
    return '"' + "".join(out) + '"'


def _ports(kind: str, ports: Sequence[tuple[str, Spec]], face: Interface) -> list[str]:
    lines: list[str] = []
    for i, (_, t) in enumerate(ports):
        axes = ", ".join(_axis(d, face) for d in t.dims) or "{0, 0, 0}"
        lines.append(f"static const tapeout_axis {kind}{i}_axes[] = {{{axes}}};")
    rows = [
        f"  {{{c_string(name)}, TAPEOUT_{t.dtype.name.upper()}, {t.rank}, {kind}{i}_axes}},"
        for i, (name, t) in enumerate(ports)
    ]
    empty = "  {0, 0, 0, 0},"
    return [*lines, f"static const tapeout_port {kind}s[] = {{", *(rows or [empty]), "};", ""]


def _axis(dim: Expr, face: Interface) -> str:
    if dim.constant is not None:
        return f"{{{dim.constant}, 0, 0}}"
    return f"{{-1, {face.slot(dim)}, {c_string(str(dim))}}}"


def _symbols(face: Interface) -> list[str]:
    rows = [f"  {{{c_string(n)}, {lo}, INT64_C({hi})}}," for n, lo, hi in face.symbols]
    return ["static const tapeout_symbol symbols[] = {", *(rows or ["  {0, 0, 0},"]), "};", ""]


def _dims(face: Interface) -> list[str]:
    names = [n for n, _, _ in face.symbols]
    return [
        *(f"  const int64_t {d_name(n)} = s->dims[{i}];" for i, n in enumerate(names)),
        *(f"  (void){d_name(n)};" for n in names),
    ]


def _names(face: Interface) -> dict[str, str]:
    return {n: d_name(n) for n, _, _ in face.symbols}


def _derive(face: Interface) -> list[str]:
    if not face.derived:
        return []
    first = len(face.symbols)
    rows = [
        f"  s->dims[{first + i}] = {c_expr(e, _names(face))};" for i, e in enumerate(face.derived)
    ]
    return [
        "static int derive(rt_session *s)", "{", *_dims(face), *rows, "  return 0;", "}", "",
    ]


def _arena(plan: Plan, arena: Arena | None, face: Interface) -> list[str]:
    if not plan.arena:
        return []
    lives = ", ".join(f"{{{b.first}, {b.last}}}" for b in plan.arena)
    lines = [f"static const rt_life lives[] = {{{lives}}};"]
    if arena is not None:
        offsets = ", ".join(map(str, arena.offsets))
        return [*lines, f"static const int64_t offsets[] = {{{offsets}}};", ""]
    rows = [f"  bytes[{b.number}] = {_bytes(b.bytes, face)};" for b in plan.arena]
    return [
        *lines, "",
        "static void sizes(const rt_session *s, int64_t *bytes)", "{", *_dims(face), *rows, "}", "",
    ]


def _bytes(size: Expr, face: Interface) -> str:
    """Saturating where it is a plain polynomial, so that no overflow goes unseen."""
    return c_expr(size, {**_names(face), "_threads": "s->threads"})


def _step(
    step: KernelStep | CopyStep,
    plan: Plan,
    kernels: Sequence[KernelText],
    offsets: Mapping[str, int],
) -> str:
    if isinstance(step, CopyStep):
        target, source = _pointer(step.target, offsets), _pointer(step.source, offsets)
        return f"  memcpy({target}, {source}, (size_t)rt_output_bytes(s, {step.target.number}));"
    number = next(i for i, k in enumerate(kernels) if k.name == step.kernel)
    pointers = ", ".join(_pointer(b, offsets) for b in step.buffers)
    return (
        f"  t = rt_begin(s);\n  RT_NAME({step.kernel})(s, (void *const[]){{{pointers}}});\n"
        f"  rt_end(s, {number}, t);"
    )


def _pointer(buffer: Buffer, offsets: Mapping[str, int]) -> str:
    match buffer.kind:
        case "input":
            return f"s->inputs[{buffer.number}].data"
        case "output":
            return f"s->outputs[{buffer.number}].data"
        case "weight":
            return f"(void *)(s->weights + {offsets[buffer.symbol]})"
        case "arena":
            return f"s->buf[{buffer.number}]"


def _table(
    plan: Plan, face: Interface, kernels: Sequence[KernelText], arena: Arena | None, weights: int
) -> list[str]:
    scratch = max((k.scratch.fixed_bytes for k in kernels), default=0)
    info = [
        ".abi = TAPEOUT_ABI",
        f".inputs = {len(face.inputs)}",
        f".outputs = {len(face.outputs)}",
        f".symbols = {len(face.symbols)}",
        f".kernels = {len(kernels)}",
        ".input = inputs",
        ".output = outputs",
        ".symbol = symbols",
        ".kernel = kernel_names",
        f".weights_bytes = {weights}",
    ]
    rows = [f"    .info = {{{', '.join(info)}}}", f"    .derived = {len(face.derived)}"]
    if face.derived:
        rows.append("    .derive = derive")
    if plan.arena:
        rows += [f"    .buffers = {len(plan.arena)}", "    .lives = lives"]
        if arena is not None:
            rows += ["    .offsets = offsets", f"    .arena_bytes = {arena.bytes}"]
        else:
            rows.append("    .sizes = sizes")
    rows += [f"    .scratch_bytes = {scratch}", "    .execute = execute"]
    return ["const rt_model RT_NAME(model) = {", ",\n".join(rows) + ",", "};"]
