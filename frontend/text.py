"""Module text from a file or from standard input."""

import sys
from pathlib import Path

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.passes.text import parse_module, read_module


def read(file: str) -> Module:
    """Read a module; ``-`` is standard input. E0301 when it cannot be read or does not parse."""
    if file == "-":
        return parse_module(sys.stdin.read(), "standard input")
    try:
        return read_module(Path(file))
    except (OSError, UnicodeDecodeError) as error:
        facts = [("file", file), ("why", error)]
        raise CompileError("E0301", "the module text cannot be read", facts) from error
