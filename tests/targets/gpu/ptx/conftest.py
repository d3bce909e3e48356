"""Kernels to interpret: a few lines of PTX on arrays of lanes, and Triton's, compiled for sm_80."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx import Launch

Array = np.ndarray[Any, Any]
Argument = Array | int | float

HEADER = """
.version 8.8
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 smem[];
"""


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel: its PTX, and what its metadata says of a launch."""

    ptx: str
    warps: int
    shared: int

    @functools.cached_property
    def launch(self) -> Launch:
        return Launch(self.ptx)

    def __call__(self, grid: Sequence[int], *arguments: Argument, races: bool = True) -> None:
        self.launch.run(grid, arguments, warps=self.warps, shared=self.shared, races=races)

    def edited(self, pattern: str, replacement: str, which: int = 0) -> "Kernel":
        """The kernel with one match of ``pattern`` in its PTX replaced."""
        found = list(re.finditer(pattern, self.ptx))[which]
        text = self.ptx[: found.start()] + replacement + self.ptx[found.end() :]
        return Kernel(text, self.warps, self.shared)


def entry(parameters: int, body: str, threads: int) -> str:
    """PTX of a kernel that takes ``parameters`` pointers ``p0``, ``p1``, ..."""
    listed = ", ".join(f".param .u64 p{n}" for n in range(parameters))
    return f"{HEADER}.visible .entry kernel({listed}) .reqntid {threads}\n{{\n{body}\nret;\n}}\n"


@pytest.fixture
def body() -> Callable[..., Kernel]:
    """A kernel from its body: ``%t`` is the thread, ``%a0`` ... hold its pointers."""

    def make(code: str, pointers: int = 1, warps: int = 1, shared: int = 0) -> Kernel:
        loads = "\n".join(f"ld.param.b64 %a{n}, [p{n}];" for n in range(pointers))
        start = f"""
            .reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %t; .reg .b32 %c; .reg .b32 %r<32>;
            .reg .b64 %a<8>; .reg .b64 %d<16>;
            mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; {loads}
        """
        return Kernel(entry(pointers, start + code, 32 * warps), warps, shared)

    return make


@pytest.fixture
def lanes() -> Callable[..., list[Array]]:
    """Runs a few instructions on registers ``a``, ``b``, ... and returns ``x``, ``y``, ...

    Inputs are arrays of ``128 n`` lanes by name; outputs are types by name.
    """

    def run(code: str, outputs: Mapping[str, Any], **inputs: Array) -> list[Array]:
        size = next(iter(inputs.values())).size
        out = {name: np.zeros(size, dtype) for name, dtype in outputs.items()}
        arrays = {**inputs, **out}
        lines = [
            ".reg .pred p, q; .reg .b32 t, u; .reg .b64 i, j;",
            "mov.u32 t, %tid.x; mov.u32 u, %ctaid.x; mad.lo.u32 t, u, 128, t;",
        ]
        ends = list[str]()
        for n, (name, array) in enumerate(arrays.items()):
            width = array.dtype.itemsize
            lines += [
                f".reg .b{max(8 * width, 16)} {name}; .reg .b64 at_{name};",
                f"ld.param.b64 at_{name}, [p{n}]; mad.wide.u32 at_{name}, t, {width}, at_{name};",
            ]
            if name in inputs:
                lines.append(f"ld.global.b{8 * width} {name}, [at_{name}];")
            else:
                ends.append(f"st.global.b{8 * width} [at_{name}], {name};")
        text = entry(len(arrays), "\n".join([*lines, code, *ends]), 128)
        Launch(text).run((size // 128,), list(arrays.values()), warps=4, shared=0)
        return list(out.values())

    return run


@pytest.fixture
def refusal() -> Callable[..., str]:
    """The error that launching a kernel gives, as text."""

    def run(kernel: Kernel, grid: Sequence[int], *arguments: Argument) -> str:
        with pytest.raises(CompileError) as caught:
            kernel(grid, *arguments)
        return str(caught.value)

    return run


@functools.cache
def kernels() -> Any:
    """The module of Triton kernels; Triton reads their source from its file."""
    name = "ptx_kernels"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("kernels.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def compiled(
    name: str,
    signature: str,
    multiples: str,
    warps: int,
    stages: int,
    constants: tuple[tuple[str, Any], ...],
) -> Kernel:
    function = getattr(kernels(), name)
    fixed = dict(constants)
    free = [n for n in function.arg_names if n not in fixed]
    types = dict(zip(free, signature.split(), strict=True))
    aligned = [n for n, t in types.items() if t[0] == "*" or n in multiples.split()]
    at = function.arg_names.index
    source = ASTSource(
        function,
        {n: types.get(n, "constexpr") for n in function.arg_names},
        {(at(n),): value for n, value in fixed.items()},
        {(at(n),): [["tt.divisibility", 16]] for n in aligned},
    )
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    out = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    return Kernel(out.asm["ptx"], out.metadata.num_warps, out.metadata.shared)


@pytest.fixture
def build() -> Callable[..., Kernel]:
    """Compiles a Triton kernel, once a session.

    ``signature`` gives the types of its arguments but for the constants, in order; pointers and
    the arguments that ``multiples`` names are taken for multiples of 16.
    """

    def make(
        name: str,
        signature: str,
        multiples: str = "",
        warps: int = 4,
        stages: int = 3,
        **constants: Any,
    ) -> Kernel:
        return compiled(name, signature, multiples, warps, stages, tuple(constants.items()))

    return make
