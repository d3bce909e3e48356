"""The refusal of a model in which a value must be known at compile time and is not."""

from dataclasses import dataclass

from tapeout.ir.errors import CompileError, CompileErrors


@dataclass(eq=False)
class NotKnown(CompileError):
    """E0405 (a value) or E0406 (a container): ``inputs`` of the model decide it, when given.

    ``str(error)`` tells a user what to do; a caller that has the inputs can fix them instead.
    """

    inputs: tuple[str, ...] = ()


@dataclass(eq=False)
class NotKnowns(CompileErrors, NotKnown):
    """Several refusals with a :class:`NotKnown` among them; ``inputs`` of all of those."""
