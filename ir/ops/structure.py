"""Operators that hold others: entries, kernel groups, control flow."""

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, SymbolOpInterface

from tapeout.ir.expr import Expr
from tapeout.ir.types import ExprsAttr, IntAttr, Spec, StrsAttr, TensorType


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """End a region and name its results."""

    name = "nn.return"
    values = var_operand_def(TensorType)
    traits = traits_def(IsTerminator())

    def __init__(self, values: Sequence[SSAValue]) -> None:
        super().__init__(operands=[values])


@irdl_op_definition
class EntryOp(IRDLOperation):
    """One callable of the module: block arguments are the inputs, the return the outputs.

    ``inputs`` and ``outputs`` are the names that callers use, as the model's file spells them.
    The last of both are its ``states``, under the same names: what an entry returns for a state is
    what its next run begins with. Whoever runs a compiled entry has it written in place.
    """

    name = "nn.entry"
    sym_name = prop_def(StringAttr)
    inputs = prop_def(StrsAttr)
    outputs = prop_def(StrsAttr)
    states = opt_prop_def(StrsAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())

    def __init__(
        self,
        name: str,
        inputs: Sequence[tuple[str, Spec]],
        outputs: Sequence[str] = (),
        states: Sequence[str] = (),
    ) -> None:
        block = Block(arg_types=[TensorType(s) for _, s in inputs])
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "inputs": StrsAttr(tuple(n for n, _ in inputs)),
                "outputs": StrsAttr(tuple(outputs)),
                **({"states": StrsAttr(tuple(states))} if states else {}),
            },
            regions=[Region(block)],
        )

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states."""
        return () if self.states is None else self.states.data

    @property
    def returned(self) -> Sequence[SSAValue]:
        """The values of the terminator."""
        last = self.body.block.last_op
        assert isinstance(last, ReturnOp), f"entry {self.sym_name.data} does not end in nn.return"
        return last.values


@irdl_op_definition
class KernelOp(IRDLOperation):
    """One distinct kernel: ``nn`` operators over block arguments, called by symbol.

    Groups that are equal up to their operands share one kernel.
    """

    name = "nn.kernel"
    sym_name = prop_def(StringAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())

    def __init__(self, name: str, region: Region) -> None:
        super().__init__(properties={"sym_name": StringAttr(name)}, regions=[region])

    @property
    def returned(self) -> Sequence[SSAValue]:
        """The values of the terminator."""
        last = self.body.block.last_op
        assert isinstance(last, ReturnOp), f"kernel {self.sym_name.data} does not end in nn.return"
        return last.values


@irdl_op_definition
class CallOp(IRDLOperation):
    """Run a kernel on operands."""

    name = "nn.call"
    callee = prop_def(StringAttr)
    args = var_operand_def(TensorType)
    results_ = var_result_def(TensorType)

    def __init__(self, callee: str, args: Sequence[SSAValue], results: Sequence[TensorType]):
        super().__init__(
            operands=[args], properties={"callee": StringAttr(callee)}, result_types=[results]
        )


@irdl_op_definition
class IfOp(IRDLOperation):
    """Run ``then`` or ``otherwise`` by a rank-0 bool; both may read outer values."""

    name = "nn.if"
    condition = operand_def(TensorType)
    ys = var_result_def(TensorType)
    then = region_def("single_block")
    otherwise = region_def("single_block")

    def __init__(
        self, condition: SSAValue, then: Region, otherwise: Region, results: Sequence[TensorType]
    ) -> None:
        super().__init__(
            operands=[condition], regions=[then, otherwise], result_types=[list(results)]
        )


@irdl_op_definition
class LoopOp(IRDLOperation):
    """Repeat a body: ``carried`` values go around, ``scanned`` outputs are stacked on axis 0.

    Block arguments: the i64 iteration number, the rank-0 bool condition, then the carried
    values. The body returns the next condition, the next carried values, then one slice per
    scanned output. Runs while ``i < trips`` (an i64 rank-0 operand; the largest integer for no
    limit) and the condition holds. ``count`` is the symbol that the number of iterations done
    binds: the leading size of scanned outputs.
    """

    name = "nn.loop"
    trips = operand_def(TensorType)
    condition = operand_def(TensorType)
    carried = var_operand_def(TensorType)
    count = prop_def(ExprsAttr)
    scans = prop_def(IntAttr)
    ys = var_result_def(TensorType)
    body = region_def("single_block")

    def __init__(
        self,
        trips: SSAValue,
        condition: SSAValue,
        carried: Sequence[SSAValue],
        body: Region,
        results: Sequence[TensorType],
        count: Expr,
        scans: int,
    ) -> None:
        super().__init__(
            operands=[trips, condition, list(carried)],
            properties={"count": ExprsAttr((count,)), "scans": IntAttr(scans)},
            regions=[body],
            result_types=[list(results)],
        )
