"""Modules survive the way through text, with their weights or with drawn ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.passes.manager import run
from tapeout.passes.pipeline import SIMPLIFY
from tapeout.passes.text import module_text, parse_module, read_module, write_module


def layer(graph: Any) -> Any:
    g = graph(x="f32 B, S, 16")
    y = g.map("add", g.matmul(g["x"], g.weight(16, 24)), g.fixed(0.1))
    return g.returning(g.map("gelu", y))


def test_a_module_with_weights_reads_back_as_it_was(graph: Any, tmp_path: Path) -> None:
    module = layer(graph)
    write_module(module, tmp_path / "m.mlir", head="// first line\n")
    again = read_module(tmp_path / "m.mlir")
    x = {"x": np.ones((2, 3, 16), np.float32)}
    np.testing.assert_array_equal(evaluate(module, x)["y0"], evaluate(again, x)["y0"])
    assert module_text(again) == module_text(module)


def test_drawn_weights_are_the_same_each_time(graph: Any) -> None:
    text = module_text(layer(graph))
    one, two = parse_module(text), parse_module(text)
    x = {"x": np.ones((2, 3, 16), np.float32)}
    np.testing.assert_array_equal(evaluate(one, x)["y0"], evaluate(two, x)["y0"])
    run(one, SIMPLIFY, verify="each")


def test_text_that_does_not_parse_is_refused() -> None:
    with pytest.raises(CompileError, match="E0301"):
        parse_module("not a module")
