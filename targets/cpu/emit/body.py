"""Statements of one task function: loops, and the operators inside of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from tapeout.ir.tile import ops
from tapeout.ir.tile.ops import tile_of
from tapeout.targets.cpu.emit import arithmetic
from tapeout.targets.cpu.emit.memory import Memory
from tapeout.targets.cpu.emit.registers import Registers, Rows
from tapeout.targets.cpu.emit.writer import Writer
from tapeout.targets.host.text import c_expr, carrier


@dataclass
class Body:
    """Prints operators in order into ``regs.out``, as one function body."""

    regs: Registers
    memory: Memory

    @property
    def out(self) -> Writer:
        """Where statements go."""
        return self.regs.out

    def block(self, block: Block) -> None:
        """Every operator of a block but its yield."""
        for op in block.ops:
            if not isinstance(op, ops.YieldOp):
                self.operator(op)

    def operator(self, op: Operation) -> None:
        """One operator."""
        match op:
            case ops.ForOp():
                self.loop(op)
            case ops.AllocOp():
                pass
            case ops.LoadOp():
                self.memory.load(op)
            case ops.PrefetchOp():
                self.memory.prefetch(op)
            case ops.StoreOp():
                self.memory.store(op)
            case ops.FullOp():
                arithmetic.full(self.regs, op)
            case ops.IndexOp():
                self.memory.index(op)
            case ops.MapOp():
                arithmetic.map_(self.regs, op)
            case ops.BroadcastOp():
                arithmetic.broadcast(self.regs, op)
            case ops.ConvertOp():
                arithmetic.convert(self.regs, op)
            case ops.BitcastOp():
                arithmetic.bitcast(self.regs, op)
            case ops.FieldOp():
                arithmetic.field(self.regs, op)
            case ops.ReduceOp():
                arithmetic.reduce(self.regs, op)
            case ops.TransposeOp():
                arithmetic.transpose(self.regs, op)
            case ops.InterleaveOp():
                arithmetic.interleave(self.regs, op)
            case ops.DotOp():
                arithmetic.dot(self.regs, op, self.memory.late(op.a))
            case ops.LookUpOp():
                self.memory.look_up(op)
            case _:
                raise AssertionError(f"{op.name} has no C form")

    def loop(self, op: ops.ForOp) -> None:
        """A loop whose carried tiles are variables that every iteration assigns anew."""
        carried = [self.regs.variables(v, self.regs.rows(v), "carried") for v in op.carried]
        for argument, rows in zip(op.body.block.args, carried, strict=True):
            self.regs.bind(argument, rows)
        names = self.memory.scalar_names(op.indices)
        lo, hi, step = (c_expr(e, names) for e in op.range.data)
        iv = op.symbol.name
        self.out.open(f"for (i64 {iv} = {lo}; {iv} < {hi}; {iv} += {step}) {{")
        self.block(op.body.block)
        last = op.body.block.last_op
        assert isinstance(last, ops.YieldOp), "a loop body ends in tile.yield"
        self._assign(carried, last.values)
        self.out.close()
        for result, rows in zip(op.ys, carried, strict=True):
            self.regs.bind(result, rows)

    def _assign(self, carried: Sequence[Rows], following: Sequence[SSAValue]) -> None:
        """Assign all next values at once: a rotation must not read what it just wrote."""
        targets = {reg for rows in carried for row in rows for reg in row}
        pairs: list[tuple[str, str]] = []
        for rows, value in zip(carried, following, strict=True):
            t = carrier(tile_of(value).dtype).name
            for reg, text in zip(_flat(rows), _flat(self.regs.rows(value)), strict=True):
                if text in targets and text != reg:
                    saved = self.regs.fresh("before")
                    self.out.line(f"const v_{t} {saved} = {text};")
                    pairs.append((reg, saved))
                elif text != reg:
                    pairs.append((reg, text))
        for reg, text in pairs:
            self.out.line(f"{reg} = {text};")


def _flat(rows: Rows) -> list[str]:
    return [text for row in rows for text in row]
