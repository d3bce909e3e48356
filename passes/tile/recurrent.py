"""Recurrent layers: a serial loop over time inside a parallel one over the sequences.

Sequences do not see each other, so a thread takes whole ones and nothing is synchronised. Lanes
run along the hidden units; a gate is a dot loop over the inputs and one over the last state.
Constant weights are turned at compile time, so that lanes read them in one line. The state lives
in scratch of its own, twice: a step reads one row and writes the other, then copies it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, SSAValue

from tapeout.ir.dtypes import i64
from tapeout.ir.expr import Expr, as_expr
from tapeout.ir.ops.recurrent import GruOp, LstmOp, RnnOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.recurrence import ACTIVATIONS
from tapeout.ir.tile.builder import TileBuilder
from tapeout.ir.tile.ops import Bounds, index_operand, lane
from tapeout.ir.tile.types import BufferSpec
from tapeout.ir.types import spec
from tapeout.passes.tile.kernel_io import Lowered, Machine, Pack, accumulator, buffer_spec
from tapeout.passes.tile.places import clamped, number
from tapeout.passes.tile.pull import Pull
from tapeout.passes.tile.rules.reals import Real
from tapeout.passes.tile.rules.taps import nest

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackTurned:
    """``[rows, columns]`` to ``[columns, rows]``."""

    def __call__(self, array: Array) -> Array:
        """Pack one matrix."""
        return np.ascontiguousarray(array.T)


def lower_recurrent(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
    """The tile program of a lone LSTM, GRU or RNN layer."""
    return _Layer(kernel, machine, constants).build()


class _Layer:
    def __init__(self, kernel: KernelOp, machine: Machine, constants: Set[int]) -> None:
        self.kernel, self.width = kernel, machine.lanes
        self.root = next(
            op for op in kernel.body.block.ops if isinstance(op, LstmOp | GruOp | RnnOp)
        )
        root = self.root
        self.steps, self.batch, self.inputs = spec(root.x).dims
        self.hidden = as_expr(root.hidden.data)
        self.dtype = accumulator(spec(root.x).dtype)
        self.turned = {
            w for w in (root.w, root.r) if isinstance(w, BlockArgument) and w.index in constants
        }
        self.states = 2 if isinstance(root, LstmOp) else 1

    def build(self) -> Lowered:
        arguments = self.kernel.body.block.args
        inputs = [(f"x{i}", buffer_spec(v)) for i, v in enumerate(arguments)]
        packs: dict[int, Pack] = {}
        for w in self.turned:
            assert isinstance(w, BlockArgument), "only operands are turned"
            dims = tuple(reversed(spec(w).dims))
            inputs[w.index] = (f"x{w.index}", BufferSpec(dims, spec(w).dtype))
            packs[w.index] = PackTurned()
        outputs = [(f"y{i}", buffer_spec(v)) for i, v in enumerate(self.kernel.returned)]
        name = self.root.name.removeprefix("nn.")
        title = f"{name} of {self.steps} steps, {self.inputs} -> {self.hidden}"
        self.b = TileBuilder(self.kernel.sym_name.data, title, inputs, outputs)
        self.pull = Pull(self.b, dict(zip(arguments, self.b.inputs, strict=True)))
        self.target = dict(zip(self.kernel.returned, self.b.outputs, strict=True))
        with self.b.parallel("n", self.batch) as loop, self.pull.scope():
            self.sequence(loop.iv)
        return Lowered(self.b.program, packs)

    def sequence(self, n: Expr) -> None:
        """All steps of one sequence."""
        b, root = self.b, self.root
        self.n = n
        self.now = [b.alloc([self.hidden], self.dtype) for _ in range(self.states)]
        self.new = [b.alloc([self.hidden], self.dtype) for _ in range(self.states)]
        first = [root.h0, root.c0] if isinstance(root, LstmOp) else [root.h0]
        self.units(lambda at, shape, bounds: self.begin(first, at, shape, bounds))
        self.count = number(b, self.steps)
        if root.lengths is not None:
            count = b.convert(self.pull.at(root.lengths, [n], (1, 1)), i64)
            self.count = clamped(b, count, self.steps + 1)
        with b.loop("t", 0, index_operand(0), indices=[self.count]) as loop, self.pull.scope():
            self.step(loop.iv)
        y = self.target.get(root.y)
        if root.lengths is not None and y is not None:
            rest = b.loop("t", index_operand(0), self.steps, indices=[self.count])
            with rest as loop, self.pull.scope():
                self.units(lambda at, shape, bounds: self.silence(y, loop.iv, at, shape, bounds))
        self.units(self.end)

    def units(self, body: Callable[[Expr, tuple[int, int], Bounds], None]) -> None:
        """Vectors along the hidden units."""
        with self.b.loop("h", 0, self.hidden, self.width) as loop, self.pull.scope():
            at = loop.iv + lane(1, self.width)
            bounds = ((at, self.hidden),) if (self.hidden % self.width) != 0 else ()
            body(at, (1, self.width), bounds)

    def begin(
        self,
        first: Sequence[SSAValue | None],
        at: Expr,
        shape: tuple[int, int],
        bounds: Bounds,
    ) -> None:
        for value, buffer in zip(first, self.now, strict=True):
            tile = self.b.full(0, shape, self.dtype)
            if value is not None:
                tile = self.pull.at(value, [self.n, at], shape, tuple(bounds))
            self.b.store(self.b.convert(tile, self.dtype), buffer, [at], bounds)

    def end(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> None:
        """The last states are results."""
        root = self.root
        last = [root.h, root.c] if isinstance(root, LstmOp) else [root.h]
        for value, buffer in zip(last, self.now, strict=True):
            if value in self.target:
                tile = self.b.load(buffer, [at], shape, bounds)
                tile = self.b.convert(tile, spec(value).dtype)
                self.b.store(tile, self.target[value], [self.n, at], bounds)

    def silence(
        self, y: SSAValue, t: Expr, at: Expr, shape: tuple[int, int], bounds: Bounds
    ) -> None:
        """Zeros past the end of the sequence."""
        zero = self.b.full(0, shape, spec(self.root.y).dtype)
        self.b.store(zero, y, [t, self.n, at], bounds)

    def step(self, t: Expr) -> None:
        """Read step ``t`` of the sequence, in the order that the layer reads it."""
        b = self.b
        place = number(b, t)
        if self.root.reverse.data:
            place = b.map("sub", b.map("sub", self.count, number(b, 1)), place)
        # The index operand of every access that speaks of time.
        self.place = clamped(b, place, self.steps)
        if isinstance(self.root, GruOp) and not self.root.linear_before_reset.data:
            self.gated = b.alloc([self.hidden], self.dtype)
            self.units(self.reset_state)
        self.units(self.unit)
        self.units(self.advance)

    def advance(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> None:
        """The new state becomes the present one, and its first part a row of the result."""
        for new, now in zip(self.new, self.now, strict=True):
            self.b.store(self.b.load(new, [at], shape, bounds), now, [at], bounds)
        y = self.target.get(self.root.y)
        if y is not None:
            tile = self.b.load(self.new[0], [at], shape, bounds)
            tile = self.b.convert(tile, spec(self.root.y).dtype)
            self.b.store(tile, y, [index_operand(0), self.n, at], bounds, [self.place])

    def unit(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> None:
        """The next state of a vector of hidden units."""
        step = {LstmOp: self.lstm, GruOp: self.gru, RnnOp: self.rnn}[type(self.root)]
        for tile, buffer in zip(step(at, shape, bounds), self.new, strict=True):
            self.b.store(tile.tile, buffer, [at], bounds)

    # The cells

    def lstm(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> list[Real]:
        root = self.root
        assert isinstance(root, LstmOp), "checked by the caller"
        i, o, f, g = (self.gate(k, at, shape, bounds) for k in range(4))
        c = Real(self.b, self.b.load(self.now[1], [at], shape, bounds))

        def look(k: int) -> Real:
            if root.peephole is None:
                return c.lift(0.0)
            row = self.hidden * k + at
            tile = self.pull.at(root.peephole, [row], shape, tuple(bounds))
            return Real(self.b, self.b.convert(tile, self.dtype))

        i = self.active(0, i + look(0) * c)
        f = 1.0 - i if root.input_forget.data else self.active(0, f + look(2) * c)
        c = f * c + i * self.active(1, g)
        return [self.active(0, o + look(1) * c) * self.active(2, c), c]

    def reset_state(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> None:
        """The state as the reset gate lets it through, for the product with the hidden gate."""
        reset = self.active(0, self.gate(1, at, shape, bounds))
        h = Real(self.b, self.b.load(self.now[0], [at], shape, bounds))
        self.b.store((reset * h).tile, self.gated, [at], bounds)

    def gru(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> list[Real]:
        root = self.root
        assert isinstance(root, GruOp), "checked by the caller"
        update = self.active(0, self.gate(0, at, shape, bounds))
        h = Real(self.b, self.b.load(self.now[0], [at], shape, bounds))
        given = self.product(root.w, 2, self.input, at, shape, bounds) + self.bias(
            2, at, shape, bounds
        )
        if root.linear_before_reset.data:
            reset = self.active(0, self.gate(1, at, shape, bounds))
            past = self.product(root.r, 2, self.state(self.now[0]), at, shape, bounds)
            past = reset * (past + self.bias(5, at, shape, bounds))
        else:
            past = self.product(root.r, 2, self.state(self.gated), at, shape, bounds)
            past = past + self.bias(5, at, shape, bounds)
        return [(1.0 - update) * self.active(1, given + past) + update * h]

    def rnn(self, at: Expr, shape: tuple[int, int], bounds: Bounds) -> list[Real]:
        return [self.active(0, self.gate(0, at, shape, bounds))]

    # Their parts

    def gate(self, k: int, at: Expr, shape: tuple[int, int], bounds: Bounds) -> Real:
        """``x @ w_k + h @ r_k`` and both biases."""
        root, gates = self.root, self.gates
        total = self.product(root.w, k, self.input, at, shape, bounds)
        total = total + self.product(root.r, k, self.state(self.now[0]), at, shape, bounds)
        given = self.bias(k, at, shape, bounds) + self.bias(k + gates, at, shape, bounds)
        return total + given

    @property
    def gates(self) -> int:
        """How many gates the weights hold."""
        return {LstmOp: 4, GruOp: 3, RnnOp: 1}[type(self.root)]

    def bias(self, k: int, at: Expr, shape: tuple[int, int], bounds: Bounds) -> Real:
        if self.root.b is None:
            return Real(self.b, self.b.full(0, (1, 1), self.dtype))
        tile = self.pull.at(self.root.b, [self.hidden * k + at], shape, tuple(bounds))
        return Real(self.b, self.b.convert(tile, self.dtype))

    def input(self, k: Expr) -> SSAValue:
        """Element ``k`` of the present input."""
        index = [index_operand(0), self.n, k]
        return self.b.load(self.pull.buffers[self.root.x], index, (1, 1), indices=[self.place])

    def state(self, buffer: SSAValue) -> Callable[[Expr], SSAValue]:
        """Elements of a state."""
        return lambda k: self.b.load(buffer, [k], (1, 1))

    def product(
        self,
        w: SSAValue,
        gate: int,
        source: Callable[[Expr], SSAValue],
        at: Expr,
        shape: tuple[int, int],
        bounds: Bounds,
    ) -> Real:
        """Rows ``gate * hidden + at`` of ``w`` times a vector."""
        row = self.hidden * gate + at

        def step(place: tuple[Expr, ...], carried: list[SSAValue]) -> list[SSAValue]:
            (k,) = place
            index = [k, row] if w in self.turned else [row, k]
            weight = self.b.load(self.pull.buffers[w], index, shape, bounds)
            x = self.b.convert(source(k), self.dtype)
            return [self.b.map("fma", x, self.b.convert(weight, self.dtype), carried[0])]

        start = [self.b.full(0, shape, self.dtype)]
        return Real(self.b, nest(self.pull, [spec(w).dims[1]], start, step)[0])

    def active(self, which: int, x: Real) -> Real:
        """Activation number ``which`` of the layer."""
        root = self.root
        name, clip = root.activations.data[which], root.clip.data
        defaults = ACTIVATIONS[name]
        a = root.alphas.data[which] if root.alphas.data else defaults[0]
        c = root.betas.data[which] if root.betas.data else defaults[1]
        if clip > 0 and which < 2:
            x = x.clip(-clip, clip)
        return activation(name, x, a, c)


def activation(name: str, x: Real, a: float, c: float) -> Real:
    """An activation of :data:`tapeout.ir.recurrence.ACTIVATIONS` with its constants."""
    match name:
        case "sigmoid" | "tanh" | "relu" | "softplus":
            return x.map(name)
        case "affine":
            return a * x + c
        case "leaky_relu":
            return (a * x).where(x.compare("lt", 0.0), x)
        case "thresholded_relu":
            return x.where(x.compare("gt", a), 0.0)
        case "scaled_tanh":
            return a * (c * x).map("tanh")
        case "hard_sigmoid":
            return (a * x + c).clip(0.0, 1.0)
        case "elu":
            return (a * x.min(0.0).map("expm1")).where(x.compare("lt", 0.0), x)
        case _:
            assert name == "softsign", f"no activation {name!r}"
            return x / (1.0 + x.map("abs"))
