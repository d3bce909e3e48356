"""Random graphs whose operands need not fit together: only the sizes of a run decide that.

Every axis of every input is one of a few symbols, and operators meet whatever is there. A run
either fits, and then the compiled program agrees with the evaluator, or both refuse it.

    python tests/differential/open_sizes.py [--seconds 600] [--seed N] [--one]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.frontend import driver
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import f32, i64
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import Expr, as_expr, maximum, minimum, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import ConvOp
from tapeout.ir.ops.index import GatherElementsOp, GatherOp, ScatterElementsOp
from tapeout.ir.ops.norm import RmsNormOp
from tapeout.ir.ops.reduce import ArgReduceOp
from tapeout.ir.ops.sort import TopKOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.ops.views import ConcatOp, PadOp, SliceOp
from tapeout.ir.types import Spec, spec
from tapeout.passes.simplify.dead import DropDead
from tapeout.runtime import artifact
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import load
from tapeout.targets.cpu import target as cpu

Array = np.ndarray[Any, Any]
SYMBOLS = {"A": symbol("A", 0, 6), "B": symbol("B", 0), "C": symbol("C", 1), "D": symbol("D", 1, 6)}
SIZES = (0, 1, 2, 3, 4, 6)
REFUSED = "refused"
REFUSALS = ("E0208", "E0513", "E0514", "E0516")
MOST_ELEMENTS = 200_000


@dataclass(frozen=True)
class Case:
    """A module, and inputs for some choices of its sizes."""

    seed: int
    module: Module
    inputs: Sequence[dict[str, Array]]


class Draw(Emit):
    """Builds one graph; ``random`` makes every choice."""

    def __init__(
        self, random: np.random.Generator, builder: Builder, pool: Sequence[SSAValue]
    ) -> None:
        super().__init__(builder)
        self.random, self.pool = random, list(pool)

    def below(self, most: int) -> int:
        """A number below ``most``."""
        return int(self.random.integers(most))

    def value(self, rank: int | None = None) -> SSAValue | None:
        """A float value, of a rank."""
        found = [v for v in self.pool if spec(v).dtype is f32 and rank in (None, spec(v).rank)]
        return found[self.below(len(found))] if found else None

    def some_size(self) -> Expr:
        """Some size: a symbol, a number, or a little of both."""
        e = list(SYMBOLS.values())[self.below(len(SYMBOLS))]
        return (e, e + 1, as_expr(1 + self.below(4)), maximum(e - 2, 0), minimum(e, 3))[
            self.below(5)
        ]

    def indices(self, dims: Sequence[Expr]) -> SSAValue:
        """Zeros in i64: every axis that has an element has this place."""
        return self.expand(self.constant(0, i64), dims)


def binary(d: Draw) -> SSAValue | None:
    """Two shapes that broadcast only if their sizes are equal."""
    a, b = d.value(), d.value()
    return None if a is None or b is None else d.map("add", a, b)


def product(d: Draw) -> SSAValue | None:
    """An inner size of two names."""
    a, b = d.value(2), d.value(2)
    if a is None or b is None:
        return None
    return d.matmul(a, b, transpose_b=bool(d.below(2)))


def reshape(d: Draw) -> SSAValue | None:
    """Another shape of what may be another number of elements."""
    x = d.value()
    return None if x is None else d.reshape(x, [d.some_size() for _ in range(1 + d.below(3))])


def expand(d: Draw) -> SSAValue | None:
    """Repetition to sizes of other names."""
    x = d.value()
    return None if x is None else d.expand(x, [d.some_size() for _ in range(spec(x).rank)])


def concat(d: Draw) -> SSAValue | None:
    """Other axes of other names."""
    a, b = d.value(2), d.value(2)
    return None if a is None or b is None else d.op(ConcatOp, (a, b), axis=d.below(2))


def cut(d: Draw) -> SSAValue | None:
    """A slice that may leave the tensor."""
    x = d.value()
    if x is None:
        return None
    n = spec(x).rank
    starts, sizes = ([d.some_size() for _ in range(n)] for _ in range(2))
    steps = tuple(d.random.choice([-1, 1, 2], n).tolist())
    starts = [s if d.below(2) else as_expr(0) for s in starts]
    return d.op(SliceOp, x, starts=tuple(starts), sizes=tuple(sizes), steps=steps)


def pad(d: Draw) -> SSAValue | None:
    """Padding by a difference of sizes, which may be below 0."""
    x = d.value()
    if x is None:
        return None
    low = tuple(d.some_size() - 1 for _ in spec(x).dims)
    mode = ("constant", "edge", "reflect")[d.below(3)]
    return d.op(PadOp, x, None, low=low, high=(as_expr(0),) * len(low), mode=mode)


def gather(d: Draw) -> SSAValue | None:
    """A place in an axis that may be empty."""
    x = d.value()
    if x is None or not spec(x).rank:
        return None
    return d.op(GatherOp, x, d.indices([d.some_size()]), axis=d.below(spec(x).rank))


def gather_elements(d: Draw) -> SSAValue | None:
    """Places beside an axis that may be shorter."""
    x = d.value(2)
    if x is None:
        return None
    return d.op(GatherElementsOp, x, d.indices([d.some_size(), d.some_size()]), axis=d.below(2))


def scatter(d: Draw) -> SSAValue | None:
    """Updates that may be larger than what they go to."""
    x, updates = d.value(2), d.value(2)
    if x is None or updates is None:
        return None
    dims = spec(updates).dims if d.below(2) else [d.some_size(), d.some_size()]
    fn = "sum"
    return d.op(ScatterElementsOp, x, d.indices(dims), updates, axis=d.below(2), fn=fn)


def convolution(d: Draw) -> SSAValue | None:
    """Channels of two names, and a kernel that may be wider than what it slides over."""
    a, b = d.value(2), d.value(2)
    if a is None or b is None:
        return None
    x, w = (d.reshape(v, (*spec(v).dims, 1)) for v in (a, b))
    x, w = d.transpose(x, (2, 0, 1)), d.transpose(w, (2, 0, 1))
    return d.reshape(
        d.op(ConvOp, x, w, None, strides=(1,), pads=(0, 0), dilations=(1,)),
        (1, spec(x).dims[2] - spec(w).dims[2] + 1),
    )


def norm(d: Draw) -> SSAValue | None:
    """A scale of another name than the axis."""
    x, scale = d.value(2), d.value(1)
    return None if x is None or scale is None else d.op(RmsNormOp, x, scale, epsilon=1e-5)


def largest(d: Draw) -> SSAValue | None:
    """The greatest of what may be empty, or too few."""
    x = d.value()
    if x is None or not spec(x).rank:
        return None
    if d.below(2):
        index = d.op(ArgReduceOp, x, fn="max", axis=0, keepdims=False)
        return d.convert(index, f32)
    top = TopKOp.make(x, k=(d.some_size(),), axis=0)
    return d.builder.insert(top).y


def reduced(d: Draw) -> SSAValue | None:
    """A sum along one axis, so that ranks fall too."""
    x = d.value()
    if x is None or not spec(x).rank:
        return None
    axis = d.below(spec(x).rank)
    total = d.reduce("sum", x, (axis,))
    return d.reshape(total, [n for i, n in enumerate(spec(x).dims) if i != axis])


MOVES: tuple[Callable[[Draw], SSAValue | None], ...] = (
    binary,
    product,
    reshape,
    expand,
    concat,
    cut,
    pad,
    gather,
    gather_elements,
    scatter,
    convolution,
    norm,
    largest,
    reduced,
)


def draw(seed: int, runs: int = 12) -> Case:
    """A graph of a few moves, with inputs for ``runs`` choices of its sizes."""
    random = np.random.default_rng(seed)
    names = list(SYMBOLS)
    dims = [
        tuple(SYMBOLS[names[int(i)]] for i in random.integers(len(names), size=rank))
        for rank in (1, 2, 2, 3)
    ]
    # Every symbol is an axis of some input.
    dims.append(tuple(SYMBOLS.values()))
    entry = EntryOp("main", [(f"x{i}", Spec(d, f32)) for i, d in enumerate(dims)])
    block = entry.body.block
    d = Draw(random, Builder(InsertPoint.at_end(block)), [*block.args][:-1])
    made: list[SSAValue] = []
    count = 2 + d.below(4)
    while len(made) < count:
        try:
            y = MOVES[d.below(len(MOVES))](d)
        except CompileError:  # sizes that can never go together
            continue
        if y is not None and spec(y).rank <= 4:
            d.pool.append(y)
            made.append(y)
    # Where one value alone leaves, passes have more to take away.
    made = [*made[-1 if d.below(2) else 0 :], block.args[-1]]
    block.add_op(ReturnOp(made))
    entry.outputs = type(entry.inputs)(tuple(f"y{i}" for i in range(len(made))))
    inputs = [_arrays(entry, _sizes(random, i), random) for i in range(runs)]
    module = Module(ModuleOp([entry]))
    DropDead().apply(module)  # what nobody needs may be refused by the evaluator alone
    return Case(seed, module, inputs)


def _sizes(random: np.random.Generator, run: int) -> dict[str, int]:
    """Mostly equal sizes, so that many runs fit."""
    sizes = {name: int(random.choice(SIZES[2:])) for name in SYMBOLS}
    if run % 3 == 0:
        sizes = dict.fromkeys(SYMBOLS, int(random.choice(SIZES[1:])))
    if run % 3 == 1:
        sizes |= dict.fromkeys(list(SYMBOLS)[:2], int(random.choice(SIZES)))
    return sizes


def _arrays(entry: EntryOp, sizes: dict[str, int], random: np.random.Generator) -> dict[str, Array]:
    shapes = [[d.evaluate(sizes) for d in spec(a).dims] for a in entry.body.block.args]
    arrays = [random.standard_normal(s).astype(np.float32) for s in shapes]
    return dict(zip(entry.inputs.data, arrays, strict=True))


def outcomes(case: Case, run: Callable[[dict[str, Array]], dict[str, Array]]) -> list[Any]:
    """What each run gives: outputs by name, or :data:`REFUSED`."""
    found: list[Any] = []
    for inputs in case.inputs:
        try:
            found.append(run(inputs))
        except (CompileError, RunError) as error:
            if error.code not in REFUSALS:
                raise
            found.append(REFUSED)
    return found


def expected(case: Case) -> list[Any]:
    """What the evaluator says of each run."""
    return outcomes(case, lambda inputs: evaluate(case.module, inputs))


def build(case: Case, devices: Sequence[Any], path: Path) -> None:
    """Write the artifact of a graph; the case keeps its module as it is."""
    module = replace(case.module, ir=case.module.ir.clone())
    driver.lower(module)
    built = cpu.compile_module(module, devices)
    artifact.write(path, built.manifest, built.files, "file")


def differences(case: Case, want: Sequence[Any], have: Sequence[Any]) -> list[str]:
    """Runs in which two outcomes differ."""
    found: list[str] = []
    for i, (a, b) in enumerate(zip(want, have, strict=True)):
        refused = [o is REFUSED for o in (a, b)]
        shapes = [list(x.shape) for x in case.inputs[i].values()]
        if any(refused) and not all(refused):
            by = "the evaluator" if refused[0] else "compiled code"
            found.append(f"run {i} of {shapes}: refused by {by} alone")
        elif not any(refused):
            found += [f"run {i} of {shapes}: {n}" for n in a if not _close(a[n], b[n])]
    return found


def _close(a: Array, b: Array) -> bool:
    top = float(np.abs(a[np.isfinite(a)]).max(initial=1e-3))
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=2e-4 * top, equal_nan=True)


def check(case: Case, device: str, folder: Path) -> list[str]:
    """Compile a graph and compare all its runs."""
    path, want = folder / f"{case.seed}.tapeout", expected(case)
    try:
        build(case, driver.targeted(f"cpu:{device}"), path)
    except CompileError as error:
        # Seen together, some sizes can never fit: then no run does.
        if not error.code.startswith("E02"):
            raise
        return differences(case, want, [REFUSED] * len(want))
    have = outcomes(case, load(path, threads=2).run)
    path.unlink()
    return differences(case, want, have)


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Graphs whose sizes may not fit together.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", action="store_true", help="one graph, and its text")
    parser.add_argument("--device", default="generic")
    options = parser.parse_args(arguments)
    end, seed, wrong, fitting, runs = time.monotonic() + options.seconds, options.seed, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            case = draw(seed)
            if options.one:
                print(case.module.ir)
            found = expected(case)
            fitting, runs = fitting + sum(o is not REFUSED for o in found), runs + len(found)
            try:
                lines = check(case, options.device, Path(folder))
            except Exception as error:
                lines = [f"{type(error).__name__}: {' '.join(str(error).splitlines()[:2])}"]
            wrong += bool(lines)
            for line in lines[:3]:
                print(f"seed {seed}: {line}", flush=True)
            seed += 1
            if options.one:
                break
    print(f"{seed - options.seed} graphs, {wrong} wrong; {fitting} of {runs} runs fit")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
