"""Lines of C, indented as blocks open and close."""

from dataclasses import dataclass, field


@dataclass
class Writer:
    """Collects the statements of one function body."""

    lines: list[str] = field(default_factory=list[str])
    depth: int = 1

    def line(self, text: str) -> None:
        """One statement at the present depth."""
        self.lines.append("  " * self.depth + text)

    def open(self, head: str) -> None:
        """A line that begins a block."""
        self.line(head)
        self.depth += 1

    def close(self) -> None:
        """The end of the block that was opened last."""
        self.depth -= 1
        self.line("}")
