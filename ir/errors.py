"""A user's mistake, told so that the user can mend it.

Every refusal of the compiler is a :class:`CompileError`: a stable code, where it happened, the
values that disagree, and what to do next. An internal fault is a plain assertion instead.

Codes: E01xx command line and options, E02xx types and shapes, E03xx model files, E04xx
operators and features without support, E06xx tools on this machine, E07xx quantisation and
sparsity, E08xx what ``tapeout bisect`` finds, E09xx what running a GPU kernel on the CPU finds
(listed in ``targets/gpu/ptx/faults.py``). The runtime has E05xx.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class CompileError(Exception):
    """One refusal: ``code`` (``E0101``), ``what``, labelled ``facts`` and a ``fix``.

    ``facts`` are pairs such as ``("where", "--target")``; they are printed in order, one a line.
    """

    code: str
    what: str
    facts: Sequence[tuple[str, object]] = field(default_factory=tuple)
    fix: str = ""

    def __str__(self) -> str:
        rows = [*self.facts, *([("fix", self.fix)] if self.fix else [])]
        width = max((len(label) for label, _ in rows), default=0) + 1
        lines = [f"  {label + ':':<{width}} {printable(value)}" for label, value in rows]
        return "\n".join([f"error[{self.code}]: {printable(self.what)}", *lines])


@dataclass(eq=False)
class CompileErrors(CompileError):
    """Several refusals found in one look, so that a user mends them in one go."""

    errors: Sequence[CompileError] = field(default_factory=tuple)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def together(errors: Sequence[CompileError], what: str) -> CompileError:
    """One refusal for all of ``errors``: the only one itself, or a :class:`CompileErrors`."""
    first = errors[0]
    return first if len(errors) == 1 else CompileErrors(first.code, what, errors=errors)


def printable(value: object) -> str:
    """Return ``str(value)`` with control characters escaped: it may come from a hostile file."""
    text = str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
