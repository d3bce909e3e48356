"""Runs the ``.mlir`` files of this folder: their passes, their checks, and what they compute.

The first line names the passes (``// RUN: fold{limit=1}``). What is printed after them must
match the file's checks, and every entry must give the same numbers as before.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser
from xdsl.ir import SSAValue

from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp
from tapeout.ir.types import spec
from tapeout.passes.manager import run
from tapeout.passes.pipeline import PIPELINE, parse_pipeline
from tapeout.passes.text import module_text, read_module

ROUNDS = {"quantize-layers": 0.03}
"""Passes that change values on purpose, with what they may be off by."""

FILES = sorted(Path(__file__).parent.glob("*.mlir"))
DIRECTIVE = re.compile(
    r"// (RUN: \S.*|CHECK(-(LABEL|NEXT|SAME|NOT|DAG|EMPTY|COUNT-\d+))?: ?\S.*|CHECK-EMPTY:)"
)
# What looks like a directive: a comment that starts with a word in capitals, or says "check".
SHOUTED = re.compile(r"//\s*(?:[A-Z]{3,}|(?i:\w*c[a-z]{0,2}h?e[a-z]{0,2}ck\w*\s*(-\w+)*:))")

OTHER_INPUTS = {"page-caches"}
"""Passes after which an entry takes other inputs: their meaning is tested in tests/passes."""

Array = np.ndarray[Any, Any]


def misspelt(line: str) -> bool:
    """Whether a line looks like a directive but would be skipped as a comment."""
    return bool(SHOUTED.match(line.strip())) and not DIRECTIVE.fullmatch(line.strip())


def passes_of(path: Path) -> str:
    first = path.read_text().split("\n", 1)[0]
    assert first.startswith("// RUN: "), f"{path.name} starts with its passes"
    return first.removeprefix("// RUN: ")


def pass_of(path: Path) -> str:
    """The pass that a file is for; a second file of it has a word more in its name."""
    return path.stem.partition(".")[0]


def drawn(value: SSAValue, sizes: dict[str, int], random: np.random.Generator) -> Array:
    want = spec(value)
    shape = [d.evaluate(sizes) for d in want.dims]
    made = random.standard_normal(shape) if want.dtype.is_float else random.integers(0, 2, shape)
    return np.asarray(made).astype(want.dtype.numpy)


def inputs(entry: EntryOp) -> dict[str, Array]:
    sizes = {"B": 2, "S": 5, "T": 7}
    random = np.random.default_rng(11)
    names: tuple[str, ...] = entry.inputs.data
    arguments = zip(names, entry.body.block.args, strict=True)
    return {name: drawn(value, sizes, random) for name, value in arguments}


def results(module: Module) -> dict[str, dict[str, Array]]:
    names = [entry.sym_name.data for entry in module.entries()]
    entries = dict(zip(names, module.entries(), strict=True))
    return {name: evaluate(module, inputs(entry), name) for name, entry in entries.items()}


def matches(text: str, path: Path) -> bool:
    options = Options(str(path), comment_prefixes="COM")  # pyright: ignore[reportArgumentType]
    options.check_prefixes = ["CHECK"]
    return Matcher(options, FInput("after", text), Parser.from_opts(options)).run() == 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_passes_print_what_the_file_says(path: Path) -> None:
    module = read_module(path)
    before = {} if pass_of(path) in OTHER_INPUTS else results(module)
    run(module, parse_pipeline(passes_of(path)), verify="each")
    assert matches(module_text(module), path)
    if not before:
        return
    for name, outputs in results(module).items():
        for output, array in outputs.items():
            off = ROUNDS.get(pass_of(path), 2e-6)
            np.testing.assert_allclose(array, before[name][output], 2e-5, off, err_msg=name)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_fails_without_its_passes(path: Path) -> None:
    assert not matches(module_text(read_module(path)), path)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_no_directive_is_misspelt(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if misspelt(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "// CHECK-NXT: nn.map",
        "// CHEKC: nn.map",
        "// CHECK : nn.map",
        "// CHECK",
        "// check: nn.map",
        "// CHECK-LABLE: x",
        "//CHECK: nn.map",
        "// RUN:",
    ],
)
def test_misspelt_directives_are_found(line: str) -> None:
    assert misspelt(line)


@pytest.mark.parametrize("line", ["// CHECK: a", "// CHECK-COUNT-3: a", "// A silu stays.", "%0"])
def test_sound_lines_pass(line: str) -> None:
    assert not misspelt(line)


def test_every_pass_of_these_stages_has_its_file() -> None:
    assert {p.stem for p in FILES} >= {p.name for stage in PIPELINE.values() for p in stage}


def test_each_file_runs_the_pass_of_its_name() -> None:
    for path in FILES:
        assert pass_of(path) in {each.name for each in parse_pipeline(passes_of(path))}


def test_a_run_line_that_names_no_pass_is_refused() -> None:
    with pytest.raises(CompileError, match="E0101"):
        parse_pipeline("no-such-pass")
