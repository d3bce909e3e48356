"""The functions of an artifact, as ``gpu/functions.json`` tells of them, with their PTX."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tapeout.ir.errors import CompileError
from tapeout.ir.expr import Expr
from tapeout.ir.expr_text import parse_exprs
from tapeout.targets.gpu.ptx import Launch


@dataclass(frozen=True)
class Argument:
    """A buffer of ``bytes``, or where there are none a dimension, of the name ``size``.

    Of a buffer, what :class:`tapeout.targets.gpu.emit.kernel.Use` tells.
    """

    name: str
    type: str
    bytes: Expr | None = None
    size: str = ""
    reads: bool = False
    writes: bool = False
    scratch: bool = False
    begins: str = ""


@dataclass(frozen=True)
class Function:
    """A function and its code for the emulated architecture."""

    name: str
    arguments: Sequence[Argument]
    programs: Expr
    warps: int
    shared: int
    ptx: str

    @cached_property
    def launch(self) -> Launch:
        """The function, ready to be interpreted."""
        return Launch(self.ptx, self.name)


@dataclass(frozen=True)
class Code:
    """The functions of a program by the SHA-256 of their code objects, which have ``sizes``."""

    architecture: int
    functions: Mapping[str, Function]
    sizes: frozenset[int]


def read_code(text: bytes, ptx: Callable[[str], bytes]) -> Code:
    """What ``functions.json`` says; ``ptx`` gives the file for a function, as ``NAME.sm_80``.

    The architecture is the oldest there is code for, whose PTX an artifact keeps.
    """
    rows: list[dict[str, Any]] = json.loads(text)
    names = {name for row in rows for name in row["code"]}
    oldest = min(names, key=_number, default="sm_80")
    functions: dict[str, Function] = {}
    sizes: set[int] = set()
    for row in rows:
        its = row["code"][oldest]
        sizes.add(its["bytes"])
        functions[its["sha256"]] = Function(
            row["name"],
            [_argument(each) for each in row["arguments"]],
            _expr(row["programs"]),
            its["warps"],
            its["shared_bytes"],
            ptx(f"{row['name']}.{oldest}").decode(),
        )
    if len(functions) != len(rows):
        raise CompileError("E0908", "two functions of the program have the same code object")
    return Code(_number(oldest), functions, frozenset(sizes))


def _number(device: str) -> int:
    return int(device.removeprefix("sm_"))


def _argument(row: dict[str, Any]) -> Argument:
    size = row.pop("bytes", None)
    return Argument(**row, bytes=None if size is None else _expr(size))


def _expr(text: str) -> Expr:
    return parse_exprs(text)[0]
