"""What a user of a compiled program is told when an artifact, a machine or an input is refused.

Codes, with the C runtime's among them:

=====  ==========================================================================
E0501  the artifact cannot be opened, is no artifact, or is cut off
E0502  the manifest is malformed, or of a schema that this runtime does not read
E0503  a file is missing, added, or not what the manifest says (size, hash, checksum)
E0504  an entry is unsafe: its name, its compression, or where it lies
E0505  the program is for another machine, or its library does not load here
E0506  the weights cannot be mapped
E0510  an input's or output's name is missing or unknown
E0511  an element type differs
E0512  a number of axes differs
E0513  a size differs, or is outside its range
E0514  sizes that must agree do not
E0515  an output's buffer does not fit
E0516  there is not enough memory
E0517  a value in an input is not allowed (it leads to a size that does not fit)
E0518  the program is closed
E0519  a session is asked of a program without states, or with sizes that it cannot have
E0520  the pages of a cache are all taken
E0521  a prompt is empty, too long, not one for each sequence, or has no such token
E0522  an option of sampling is out of range
E0523  a recurrent layer does not go back that far
E0524  a program does not give that output, or did not of the last tokens
E0525  what is given or kept is no tree of guesses, or the program takes none
E0526  a program has no such exit
E0530  there is no driver of a GPU, or it is too old
E0531  there is no GPU, or none that the program has code for
E0532  the GPU's driver reports an error
E0533  the GPU's driver does not take the program's code
=====  ==========================================================================
"""

from collections.abc import Sequence

Facts = Sequence[tuple[str, object]]


class RunError(Exception):
    """One refusal: ``code`` (``E0513``), ``what``, labelled ``facts`` and a ``fix``."""

    def __init__(self, code: str, what: str, facts: Facts = (), fix: str = "") -> None:
        """Keep the parts; ``str`` lays them out."""
        super().__init__(code, what)
        self.code, self.what, self.facts, self.fix = code, what, tuple(facts), fix

    def __str__(self) -> str:
        """Lay the parts out, one fact a line."""
        rows = [*self.facts, *([("fix", self.fix)] if self.fix else [])]
        width = max((len(label) for label, _ in rows), default=0) + 1
        lines = [f"  {label + ':':<{width}} {printable(value)}" for label, value in rows]
        return "\n".join([f"error[{self.code}]: {printable(self.what)}", *lines])

    @classmethod
    def from_text(cls, text: str) -> "RunError":
        """Take apart what the C runtime wrote: ``error[E0513]: what``, then ``label: value``."""
        first, *rest = text.splitlines() or [""]
        head, _, what = first.partition("]: ")
        pairs = [line.strip().partition(": ") for line in rest]
        facts = [(label, value.strip()) for label, _, value in pairs if label != "fix"]
        fix = next((value.strip() for label, _, value in pairs if label == "fix"), "")
        return cls(head.removeprefix("error["), what, facts, fix)


def printable(value: object) -> str:
    """Return ``str(value)`` with control characters escaped: it may come from a hostile file."""
    text = str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
