"""Modules as text files, for people and for reproducers; weights travel beside them.

``x.mlir`` holds the IR, ``x.weights.npz`` the weights that it names. Where the second is
missing, :func:`read_module` draws each weight from its symbol, shape and element type: always
the same numbers, so a pass over text alone can still be run and judged.
"""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError

from tapeout.ir.dialect import context
from tapeout.ir.dtypes import DTYPES
from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.types import StrAttr

Array = np.ndarray[Any, Any]

# A reproducer must stay a file that one can send; larger weights are drawn anew on reading.
WEIGHTS_BYTES = 64 << 20


def module_text(module: Module) -> str:
    """The IR as text, with a line end."""
    text = io.StringIO()
    Printer(text).print_op(module.ir)
    return text.getvalue() + "\n"


def write_module(module: Module, path: Path, *, head: str = "", weights: bool = True) -> None:
    """Write the IR below ``head``; with ``weights``, also those it names, up to 64 MiB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + module_text(module))
    arrays = {op.symbol.data: module.weights[op.symbol.data] for op in weight_ops(module)}
    if weights and arrays and sum(a.nbytes for a in arrays.values()) <= WEIGHTS_BYTES:
        np.savez(_beside(path), allow_pickle=False, **arrays)


def read_module(path: Path) -> Module:
    """Read what :func:`write_module` wrote. Errors: E0301 where the text does not parse."""
    saved: dict[str, Array] = {}
    if _beside(path).exists():
        with np.load(_beside(path), allow_pickle=False) as file:
            saved = dict(file)
    return parse_module(path.read_text(), path.name, saved)


def parse_module(text: str, name: str = "text", saved: dict[str, Array] | None = None) -> Module:
    """A module from its text; weights from ``saved``, or drawn. Errors: E0301."""
    try:
        module = Module(Parser(context(), text, name).parse_module())
    except ParseError as error:
        raise CompileError("E0301", "the module text does not parse", [("at", error)]) from error
    symbols: dict[str, str] = {}
    for op in weight_ops(module):
        old: str = op.symbol.data
        if old not in symbols:
            known = (saved or {}).get(old)
            symbols[old] = module.weights.add(drawn(op) if known is None else known, old)
        op.properties["symbol"] = StrAttr(symbols[old])
    return module


def weight_ops(module: Module) -> list[WeightOp]:
    """Every use of the weight store, in order."""
    return [op for op in module.ir.walk() if isinstance(op, WeightOp)]


def drawn(op: WeightOp) -> Array:
    """Numbers near zero that depend only on the operator's symbol, shape and element type."""
    shape = tuple(map(int, op.shape.data))
    random = np.random.default_rng(zlib.crc32(f"{op.symbol.data}{shape}".encode()))
    dtype = DTYPES[op.dtype.data]
    values = random.standard_normal(shape) / 4 if dtype.is_float else random.integers(0, 2, shape)
    return np.asarray(values).astype(dtype.numpy)


def _beside(path: Path) -> Path:
    return path.with_suffix(".weights.npz")
