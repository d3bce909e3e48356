"""Which stage behind the passes made a kernel wrong: what tiled it, or what made code of that."""

from typing import Any, Literal

import numpy as np

from tapeout.frontend.agreement import compare
from tapeout.frontend.bisect_kernels import Suspect
from tapeout.ir.module import Module
from tapeout.ir.tile.interpret import run
from tapeout.ir.tile.ops import buffer_of
from tapeout.passes.tile.kernel_io import Lowered
from tapeout.targets.cpu.device import Device
from tapeout.targets.cpu.target import lower_kernels

Array = np.ndarray[Any, Any]
Stage = Literal["tile", "emit"]

MAX_WORK = 2**31
"""Operations of a kernel up to which its tile program is interpreted: some seconds of numpy."""


def stage_of(suspect: Suspect, module: Module, device: Device) -> Stage | None:
    """``tile`` where the kernel's tile program is wrong already, ``emit`` where its code is.

    The tile program runs in the reference interpreter on the operands that the compiled one got.
    None where that would take too long, and for a kernel whose data decides its result's size:
    it has two programs.
    """
    lowered = lower_kernels(module, device)[suspect.kernel]
    work = lowered.program.work.data[0].evaluate(suspect.symbols)
    if lowered.count is not None or work > MAX_WORK:
        return None
    have = _interpreted(lowered, suspect)
    pairs = zip(have, suspect.want, strict=True)
    wrong = any(compare(a.reshape(b.shape), b, suspect.tolerance).parts for a, b in pairs)
    return "tile" if wrong else "emit"


def _interpreted(lowered: Lowered, suspect: Suspect) -> list[Array]:
    packed = [
        lowered.packs[i](array) if i in lowered.packs else array
        for i, array in enumerate(suspect.operands)
    ]
    arguments = zip(packed, lowered.program.body.block.args, strict=False)
    shaped = [
        array.reshape([d.evaluate(suspect.symbols) for d in buffer_of(value).dims])
        for array, value in arguments
    ]
    with np.errstate(all="ignore"):
        return run(lowered.program, shaped, suspect.symbols)
