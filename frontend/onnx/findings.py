"""Faults of a model file, collected so that its author sees them in one go."""

from collections.abc import Callable
from typing import TypeVar

from tapeout.ir.errors import CompileError, CompileErrors

T = TypeVar("T")

SHOWN = 20
"""Faults told in full; a broken file can hold thousands, and nobody reads more."""

_SHOWN_CHARACTERS = 120


def quoted(name: str) -> str:
    """Return ``name`` in quotes, its middle left out when it is long."""
    if len(name) <= _SHOWN_CHARACTERS:
        return f"'{name}'"
    half = _SHOWN_CHARACTERS // 2
    return f"'{name[:half]}...{name[-half:]}' ({len(name)} characters)"


class Findings:
    """The faults found so far, in the order of the file."""

    def __init__(self) -> None:
        """Start with none."""
        self._errors: list[CompileError] = []
        self._count = 0

    def add(self, code: str, what: str, *facts: tuple[str, object], fix: str) -> None:
        """Note one fault."""
        self.keep(CompileError(code, what, facts, fix))

    def keep(self, error: CompileError) -> None:
        """Note a fault that was raised deeper down."""
        self._count += 1
        if len(self._errors) < SHOWN:
            self._errors.append(error)

    def attempt(self, make: Callable[[], T]) -> T | None:
        """Return ``make()``, or note its refusal and return None."""
        try:
            return make()
        except CompileError as error:
            self.keep(error)
            return None

    def finish(self) -> None:
        """Raise what was found: one error as itself, several as :class:`CompileErrors`."""
        if not self._errors:
            return
        first = self._errors[0]
        if self._count == 1:
            raise first
        rest = self._count - len(self._errors)
        more = [CompileError(first.code, f"{rest} more faults are not shown", (), first.fix)]
        raise CompileErrors(
            first.code,
            f"the model file has {self._count} faults",
            (("faults", self._count),),
            first.fix,
            errors=(*self._errors, *(more if rest else [])),
        )
