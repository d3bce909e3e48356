"""The same headers under the address and undefined-behaviour sanitizers, and how they compile."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Build = Callable[..., Callable[..., Array]]

INTS = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]
OPERATIONS = [
    "add",
    "mul",
    "div",
    "trunc_mod",
    "floor_mod",
    "floordiv",
    "pow",
    "shift_left",
    "shift_right",
]
MATHS = ["exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sigmoid", "silu", "softplus"]
MATHS.extend(["mish", "erf", "gelu", "gelu_tanh", "sin", "cos", "rsqrt", "round", "floor"])
FORMATS = ["f16", "bf16", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz"]
KERNELS = {name: ("f32->f32", f"v_{name}_f32(a)") for name in MATHS}
KERNELS.update({"pow": ("f32,f32->f32", "v_pow_f32(a, b)")})
KERNELS.update({f"{op}_{t}": (f"{t},{t}->{t}", f"v_{op}_{t}(a, b)") for t in INTS
            for op in OPERATIONS})  # fmt: skip
KERNELS.update(
    {f: (f"f32->{f}", "a") for f in FORMATS} | {f"load_{f}": (f"{f}->f32", "a") for f in FORMATS}
)
HEADERS = "vmath.h half.h vint.h libm.h"
# The sanitizers do not work under user-mode emulation, and AVX2 shares its text with these two.
ISAS = ("avx512", "generic")


@pytest.fixture
def sanitized(build: Build, isa: str) -> Callable[..., Array]:
    return build(isa, HEADERS, KERNELS, sanitize=True)


def test_maths_is_defined_for_every_kind_of_float(sanitized: Callable[..., Array]) -> None:
    patterns = np.arange(0, 2**32, 1_000_003, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([patterns, np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1], np.float32)])
    for name in [*MATHS, *FORMATS]:
        assert sanitized(name, x).size == x.size
    assert sanitized("pow", x, x[::-1].copy()).size == x.size


def test_integers_are_defined_for_every_pair_of_extremes(sanitized: Callable[..., Array]) -> None:
    for t in INTS:
        info = np.iinfo(f"{t[0]}{int(t[1:]) // 8}")
        edges = [info.min, info.max, 0, 1, 2, 31, 32, 64] + ([-1, -2] if info.min < 0 else [])
        a, b = (grid.ravel() for grid in np.meshgrid(*[np.array(edges, info.dtype)] * 2))
        for op in OPERATIONS:
            assert sanitized(f"{op}_{t}", a, b).size == a.size


def test_tails_stay_inside_their_buffers(sanitized: Callable[..., Array], lanes: int) -> None:
    for n in range(lanes + 1):
        assert sanitized("exp", np.zeros(n, np.float32)).tolist() == [1.0] * n
        assert sanitized("add_i8", *[np.full(n, 3, np.int8)] * 2).tolist() == [6] * n
        assert sanitized("add_i16", *[np.full(n, 3, np.int16)] * 2).tolist() == [6] * n
        assert sanitized("add_i64", *[np.full(n, 3, np.int64)] * 2).tolist() == [6] * n
        assert sanitized("f16", np.ones(n, np.float32)).tolist() == [0x3C00] * n


def compile_alone(text: str, compiler: str, folder: Path) -> None:
    prelude = Path(__file__).resolve().parents[4] / "targets" / "cpu" / "prelude"
    source = folder / "alone.c"
    source.write_text(f"{text}int one;\n")
    flags = "-std=gnu11 -Wall -Wextra -Werror -Wno-psabi -fsyntax-only"
    command = f"{compiler} {flags} -I{prelude} {source}".split()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text} with {compiler}\n{done.stderr}"


PARTS = "vec vmath vexp vlog verf vact vtrig vpow cvt vint half libm".split()


@pytest.mark.parametrize("header", PARTS)
def test_each_header_stands_alone(tmp_path: Path, header: str) -> None:
    compile_alone(f'#include "{header}.h"\n', "gcc -mavx2 -mfma -mf16c", tmp_path)


@pytest.mark.parametrize("compiler", ["gcc", "gcc -march=skylake-avx512", "aarch64-linux-gnu-gcc"])
def test_unused_functions_cost_no_warning(tmp_path: Path, compiler: str) -> None:
    compile_alone("".join(f'#include "{part}.h"\n' for part in PARTS), compiler, tmp_path)
