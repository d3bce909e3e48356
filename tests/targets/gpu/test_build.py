"""Triton's compiler as a step: the same bytes every time, and words for what it refuses."""

import importlib.util

import pytest

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.build import Job, build, build_best
from tapeout.targets.gpu.emit.kernel import PRELUDE

COPY = """
@triton.jit
def copy(x0, y0, dim_N):
    lanes = tl.program_id(0) * 64 + tl.arange(0, 64)
    tl.store(y0 + lanes, tl.load(x0 + lanes, mask=lanes < dim_N), mask=lanes < dim_N)
"""
SIGNATURE = {"x0": "*fp32", "y0": "*fp32", "dim_N": "i32"}


@pytest.mark.parametrize("arch", [80, 90])
def test_the_same_source_gives_the_same_bytes(arch: int) -> None:
    first, second = (build(PRELUDE + COPY, [Job("copy", SIGNATURE, arch)])[0] for _ in "12")
    assert first.code[:4] == b"\x7fELF"
    assert f".target sm_{arch}" in first.ptx
    assert (first.code, first.ptx) == (second.code, second.ptx)


PRODUCT = """
@triton.jit
def product(x0, x1, y0):
    rows, columns = tl.arange(0, 128)[:, None], tl.arange(0, 256)[None, :]
    a = tl.load(x0 + rows * 16 + tl.arange(0, 16)[None, :])
    b = tl.load(x1 + tl.arange(0, 16)[:, None] * 256 + columns)
    tl.store(y0 + rows * 256 + columns, tl.dot(a, b, input_precision="ieee"))
"""
"""Of 128 threads each holds 256 sums, and has 255 registers."""


def test_what_spills_is_given_to_more_warps() -> None:
    jobs = [
        Job("copy", SIGNATURE, 80),
        Job("product", dict.fromkeys(("x0", "x1", "y0"), "*fp32"), 80),
    ]
    source = PRELUDE + COPY + PRODUCT
    plain, best = build(source, jobs), build_best(source, jobs)
    assert plain[1].spilled > 0
    assert best[1].spilled == 0
    assert (plain[1].job.warps, best[1].job.warps) == (4, 8)
    assert best[0] == plain[0]


def test_what_triton_refuses_is_told_in_its_words() -> None:
    broken = COPY.replace("tl.store(y0", "tl.store(missing")
    with pytest.raises(CompileError, match="missing is not defined") as refused:
        build(PRELUDE + broken, [Job("copy", SIGNATURE, 80)])
    assert refused.value.code == "E0602"


def test_without_triton_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    with pytest.raises(CompileError, match="tapeout\\[gpu\\]") as refused:
        build(PRELUDE + COPY, [Job("copy", SIGNATURE, 80)])
    assert refused.value.code == "E0601"
