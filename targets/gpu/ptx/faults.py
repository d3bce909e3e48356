"""What the interpreter refuses or finds, as coded errors that name the instruction.

E0901 PTX that it does not know, E0902 an access outside of memory, E0903 a misaligned access,
E0904 a race between CTAs, E0905 a race between warps of a CTA, E0906 threads that wait for what
never comes, E0907 arguments that do not fit the kernel, E0908 memory that the launcher hands to a
kernel, or copies, and that holds nothing (see ``emulate/``).
"""

from collections.abc import Sequence

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx.text import Instruction


def fault(
    code: str,
    what: str,
    instruction: Instruction,
    facts: Sequence[tuple[str, object]] = (),
    fix: str = "",
) -> CompileError:
    """Return the error ``code`` at ``instruction``."""
    where = f"PTX line {instruction.line}"
    if instruction.source:
        where += f", from {instruction.source}"
    return CompileError(
        code, what, [("where", where), ("instruction", instruction.text), *facts], fix
    )


def unknown(instruction: Instruction, what: str) -> CompileError:
    """Return the refusal of an instruction that the interpreter does not know in this form."""
    fix = "add it to targets/gpu/ptx/ops_*.py, with a test"
    return fault("E0901", f"{what} is not known to the PTX interpreter", instruction, fix=fix)
