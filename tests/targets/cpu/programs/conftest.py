"""One model with a kernel of every strategy, compiled for each device and run by a C program."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from tapeout.frontend import driver
from tapeout.ir.build import Emit
from tapeout.ir.dtypes import DType, bf16, f16, f32, i8, i32, i64, u8
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.attention import AttentionOp
from tapeout.ir.ops.contract import ConvOp, MatmulOp
from tapeout.ir.ops.experts import ExpertGroupedMatmulOp, ExpertMatmulOp
from tapeout.ir.ops.grouped import GroupedMatmulOp
from tapeout.ir.ops.norm import LayerNormOp, SoftmaxOp
from tapeout.ir.ops.pointwise import ConvertOp
from tapeout.ir.ops.pool import PoolOp
from tapeout.ir.ops.sparse import BlockSparseMatmulOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.ops.views import ConcatOp
from tapeout.ir.types import Spec, spec
from tapeout.passes.sparsify.encode import encode_blocks
from tapeout.runtime import artifact
from tapeout.runtime.cpu import features, machine
from tapeout.targets.cpu import target
from tapeout.targets.cpu.device import Device, devices

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
HEADERS = HERE.parents[3] / "runtime" / "c"
SYSROOT = "/usr/aarch64-linux-gnu"

INPUTS: dict[str, Sequence[int]] = {"image": (2, 5, 11, 9), "tokens": (2, 21, 24)}


NAMES = [
    *("pixels", "words", "row_sums", "byte_sums", "byte_rows", "packed_rows", "few_rows"),
    *("pixels_bf16", "words_bf16", "pixels_f16", "words_f16", "sparse_bytes", "sparse_words"),
    *("by_expert", "by_expert_bf16", "codes_by_expert"),
]
EXACT = ("byte_sums", "byte_rows", "packed_rows", "few_rows", "sparse_bytes", "codes_by_expert")
"""Outputs that are integers, or their products with powers of two."""


def mixture() -> Module:
    """Convolutions, pools, products, attention, norms, reductions, concatenation, narrow types."""
    specs = [(n, Spec(tuple(map(as_expr, shape)), f32)) for n, shape in INPUTS.items()]
    entry = EntryOp("main", specs, NAMES)
    module = Module(ModuleOp([entry]))
    g = Emit(Builder(InsertPoint.at_end(entry.body.block)))
    random = np.random.default_rng(2)

    def weight(*shape: int) -> SSAValue:
        values = (random.standard_normal(shape) / 4).astype(np.float32)
        return g.builder.insert(module.constant(values)).results[0]

    def signed_bytes(*shape: int) -> SSAValue:
        values = random.integers(-128, 128, shape).astype(np.int8)
        return g.builder.insert(module.constant(values)).results[0]

    image, tokens = entry.body.block.args
    floats = [_pixels(g, weight, image), *_words(g, weight, tokens)]
    floats += [*_bytes(g, signed_bytes, image, tokens), _packed(g, module, tokens)]
    floats += [_few_rows(g, module, tokens)]
    for dtype in (bf16, f16):

        def narrow(*shape: int, to: DType = dtype) -> SSAValue:
            values = (random.standard_normal(shape) / 4).astype(to.numpy)
            return g.builder.insert(module.constant(values)).results[0]

        floats += _narrow(g, narrow, *(g.convert(x, dtype) for x in (image, tokens)))
    floats += _sparse(g, module, tokens)
    floats += [_by_expert(g, module, tokens, dtype) for dtype in (f32, bf16)]
    floats += [_codes_by_expert(g, module, tokens)]
    g.builder.insert(ReturnOp(floats))
    return module


def _narrow(
    g: Emit, weight: Callable[..., SSAValue], image: SSAValue, tokens: SSAValue
) -> list[SSAValue]:
    """Floats of 16 bits, summed in f32; runs and rows end in half a pair."""
    window = {"strides": (2, 1), "pads": (0, 1, 0, 1), "dilations": (1, 1)}
    y = g.op(ConvOp, image, weight(35, 5, 3, 3), None, **window, to=f32)
    hidden = g.map("gelu", g.op(MatmulOp, tokens, weight(24, 37), to=f32))
    near = g.convert(hidden, spec(tokens).dtype)
    return [y, g.op(MatmulOp, near, weight(50, 37), transpose_b=True, to=f32)]


def _by_expert(g: Emit, module: Module, tokens: SSAValue, dtype: DType) -> SSAValue:
    """Rows that name one of six matrices, the fourth never; a map follows."""
    random = np.random.default_rng(8)
    matrices = (random.standard_normal((6, 37, 24)) / 4).astype(dtype.numpy)
    places = random.choice([0, 1, 2, 4, -1], 42, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    w, experts = (g.builder.insert(module.weight(v)).results[0] for v in (matrices, places))
    rows = g.convert(g.reshape(tokens, (as_expr(42), as_expr(24))), dtype)
    return g.map("gelu", g.op(ExpertMatmulOp, rows, w, experts, transpose_b=True, to=f32))


def _codes_by_expert(g: Emit, module: Module, tokens: SSAValue) -> SSAValue:
    """Rows of three groups that name codes of 3 bits; scales are powers of two."""
    random = np.random.default_rng(12)

    def fixed(values: Any, dtype: DType) -> SSAValue:
        return g.builder.insert(module.weight(np.asarray(values).astype(dtype.numpy))).results[0]

    scaled = g.map("round", g.map("mul", tokens, g.constant(50, f32)))
    a = g.reshape(g.op(ConvertOp, scaled, to=i8, saturate=True), (42, 24))
    sums = g.reduce("sum", g.reshape(g.convert(a, i32), (42, 3, 8)), (2,))
    sums = g.reshape(sums, (42, 3))
    a_scale = fixed(0.5 ** random.integers(0, 2, (42, 3)), f32)
    codes, zero = (fixed(random.integers(0, 8, (6, 70, n)), u8) for n in (24, 3))
    scale = fixed(0.5 ** random.integers(0, 2, (6, 70, 3)), f16)
    experts = fixed(random.choice([0, 1, 2, 4, -1], 42, p=[0.5, 0.2, 0.15, 0.1, 0.05]), i64)
    operands = (a, a_scale, sums, codes, scale, zero, experts)
    return g.op(ExpertGroupedMatmulOp, *operands, group=8, bits=3)


def _sparse(g: Emit, module: Module, tokens: SSAValue) -> list[SSAValue]:
    """Products with 4x1 blocks of bytes and of floats; the last stripe is ragged."""
    random = np.random.default_rng(6)
    scaled = g.map("round", g.map("mul", tokens, g.constant(50, f32)))
    found: list[SSAValue] = []
    for x, dtype in ((g.op(ConvertOp, scaled, to=u8, saturate=True), i8), (tokens, f32)):
        matrix = random.integers(-128, 128, (37, 24)).astype(dtype.numpy)
        matrix *= np.repeat(random.random((10, 24)) < 0.4, 4, axis=0)[:37].astype(dtype.numpy)
        made = encode_blocks(matrix, group=4 if dtype is i8 else 1)
        parts = [
            g.builder.insert(module.weight(part)).results[0]
            for part in (made.starts, made.columns, made.values)
        ]
        attrs = {"outputs": 37, "group": made.group}
        found.append(g.convert(g.op(BlockSparseMatmulOp, x, *parts, **attrs), f32))
    return found


def _packed(g: Emit, module: Module, tokens: SSAValue) -> SSAValue:
    """Products with codes of 1 to 8 bits in three groups; scales are powers of two."""
    random = np.random.default_rng(4)

    def fixed(values: Any, dtype: DType) -> SSAValue:
        return g.builder.insert(module.weight(np.asarray(values).astype(dtype.numpy))).results[0]

    scaled = g.map("round", g.map("mul", tokens, g.constant(50, f32)))
    a = g.op(ConvertOp, scaled, to=i8, saturate=True)
    by_group = g.reshape(g.convert(a, i32), (2, 21, 3, 8))
    sums = g.reshape(g.reduce("sum", by_group, (3,)), (2, 21, 3))
    a_scale = fixed(0.5 ** random.integers(0, 3, (2, 21, 3)), f32)
    found: list[SSAValue] = []
    for bits in range(1, 9):
        codes = fixed(random.integers(0, 1 << bits, (21, 24)), u8)
        scale = fixed(0.5 ** random.integers(0, 3, (21, 3)), f16)
        zero = fixed(random.integers(0, 1 << bits, (21, 3)), u8) if bits % 2 else None
        attrs = {"group": 8, "bits": bits, "point": 1 << bits - 1}
        found.append(g.op(GroupedMatmulOp, a, a_scale, sums, codes, scale, zero, **attrs))
    return g.op(ConcatOp, found, axis=2)


FEW_ROWS = [
    *((1, 896, 32, 1, 70), (1, 896, 64, 2, 64), (1, 896, 128, 3, 37), (1, 896, 896, 2, 70)),
    *((1, 896, 32, 4, 70), (2, 256, 32, 2, 21), (3, 252, 36, 2, 70), (3, 256, 256, 1, 70)),
    *((3, 256, 256, 3, 130), (4, 128, 32, 3, 130), (4, 128, 128, 1, 5), (5, 128, 32, 2, 21)),
]
"""Rows, inputs, group, bits and outputs of products that some devices look up."""


def _few_rows(g: Emit, module: Module, tokens: SSAValue) -> SSAValue:
    """Products of few rows, many of whose bytes are extremes, in a row; scales are powers of two.

    Half of them have zero points; one of 1 bit stands for signs. The last column has the greatest
    codes.
    """
    random = np.random.default_rng(8)

    def fixed(values: Any, dtype: DType) -> SSAValue:
        return g.builder.insert(module.weight(np.asarray(values).astype(dtype.numpy))).results[0]

    scaled = g.map("round", g.map("mul", tokens, g.constant(120, f32)))
    line = g.reshape(g.op(ConvertOp, scaled, to=i8, saturate=True), (2 * 21 * 24,))
    found: list[SSAValue] = []
    for i, (rows, k, group, bits, n) in enumerate(FEW_ROWS):
        a = g.reshape(g.part(line, 0, 0, rows * k), (rows, k))
        by_group = g.reshape(g.convert(a, i32), (rows, k // group, group))
        sums = g.reshape(g.reduce("sum", by_group, (2,)), (rows, k // group))
        a_scale = fixed(0.5 ** random.integers(0, 2, (rows, k // group)), f32)
        codes = random.integers(0, 1 << bits, (n, k))
        codes[-1] = (1 << bits) - 1
        scale = fixed(0.5 ** random.integers(0, 2, (n, k // group)), f16)
        zero = fixed(random.integers(0, 1 << bits, (n, k // group)), u8) if i % 2 else None
        attrs = {"group": group, "bits": bits, "point": 1, "step": 2 if bits == 1 else 1}
        operands = (a, a_scale, sums, fixed(codes, u8), scale, zero)
        found.append(g.reshape(g.op(GroupedMatmulOp, *operands, **attrs), (rows * n,)))
    return g.op(ConcatOp, found, axis=0)


def _bytes(
    g: Emit, weight: Callable[..., SSAValue], image: SSAValue, tokens: SSAValue
) -> list[SSAValue]:
    """Integer products of inputs rounded to bytes; both convolutions end in a ragged dot."""

    def rounded(x: SSAValue, to: DType) -> SSAValue:
        scaled = g.map("round", g.map("mul", x, g.constant(50, f32)))
        return g.op(ConvertOp, scaled, to=to, saturate=True)

    window = {"strides": (2, 1), "pads": (0, 1, 0, 1), "dilations": (1, 1)}
    y = g.op(ConvOp, rounded(image, u8), weight(35, 5, 3, 3), None, **window)
    window = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 2)}
    z = g.op(ConvOp, rounded(image, i8), weight(10, 1, 2, 2), None, **window, groups=5)
    rows = g.matmul(rounded(tokens, u8), weight(24, 50))
    sums = g.map("add", g.reduce("sum", y, (2, 3)), g.reduce("sum", z, (1, 2, 3)))
    return [g.convert(sums, f32), g.convert(rows, f32)]


def _pixels(g: Emit, weight: Callable[..., SSAValue], x: SSAValue) -> SSAValue:
    same = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    y = g.map("relu", g.op(ConvOp, x, weight(20, 5, 3, 3), weight(20), **same))
    y = g.op(ConvOp, y, weight(20, 1, 3, 3), weight(20), **(same | {"groups": 20}))
    y = g.op(ConvOp, y, weight(34, 20, 3, 3), None, **(same | {"strides": (2, 2)}))
    pool = {"kernel": (3, 3), "strides": (2, 2), "pads": (1,) * 4, "dilations": (1, 1)}
    sizes = {"sizes": (as_expr(3), as_expr(3))}
    pools = [g.op(PoolOp, g.map("silu", y), fn=fn, **pool, **sizes) for fn in ("max", "mean")]
    return g.op(ConcatOp, pools, axis=1)


def _words(g: Emit, weight: Callable[..., SSAValue], x: SSAValue) -> list[SSAValue]:
    y = g.op(LayerNormOp, x, weight(24), weight(24), axis=-1, epsilon=1e-5)
    shape = (2, 21, 3, 8)
    heads = [
        g.transpose(g.reshape(g.matmul(y, weight(24, 24)), shape), (0, 2, 1, 3)) for _ in "qkv"
    ]
    mixed = g.transpose(g.op(AttentionOp, *heads, None, scale=0.35), (0, 2, 1, 3))
    x = g.map("add", g.matmul(g.reshape(mixed, (2, 21, 24)), weight(24, 24)), x)
    y = g.map("gelu", g.map("add", g.matmul(x, weight(24, 50)), weight(50)))
    return [g.op(SoftmaxOp, y, axis=-1), g.reduce("sum", y, (0, 2))]


@dataclass(frozen=True)
class Program:
    """A C program that runs the model on one device, perhaps under an emulator."""

    command: tuple[str, ...]
    weights: Path

    def __call__(self, threads: int, given: dict[str, Array]) -> bytes:
        """The bytes of all outputs."""
        data = b"".join(given[name].tobytes() for name in INPUTS)
        command = [*self.command, str(self.weights), str(threads)]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture(scope="session")
def given() -> dict[str, Array]:
    """Inputs of the model."""
    random = np.random.default_rng(9)
    return {n: random.standard_normal(shape).astype(np.float32) for n, shape in INPUTS.items()}


@pytest.fixture(scope="session")
def wanted(given: dict[str, Array]) -> list[Array]:
    """What the reference evaluator gives."""
    return list(evaluate(mixture(), given).values())


@pytest.fixture(scope="session")
def exact() -> list[bool]:
    """Which outputs have to agree bit for bit."""
    return [name in EXACT for name in NAMES]


def runnable() -> list[str]:
    """Devices of this machine, and NEON's, which run under an emulator elsewhere."""
    kind = machine()
    own = [d.name for d in devices().values() if d.machine in ("", kind)]
    arm = [d.name for d in devices().values() if d.machine == "aarch64" != kind]
    return [n for n in own if features() >= set(stood_in(devices()[n]).features)] + arm


def stood_in(device: Device) -> Device:
    """The device; without AVX512-BF16 where the CPU lacks it, which dot2.h then stands in for."""
    lacks = "avx512_bf16" in device.features and "avx512_bf16" not in features()
    if not lacks:
        return device
    return replace(
        device,
        features=tuple(f for f in device.features if f != "avx512_bf16"),
        flags=tuple(f for f in device.flags if f != "-mavx512bf16"),
    )


@pytest.fixture(scope="session", params=runnable())
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The model for one device, linked to a C program."""
    device = stood_in(target.built_on(machine(), devices()[request.param]))
    folder = tmp_path_factory.mktemp(request.param)
    module = mixture()
    driver.lower(module)
    built = target.compile_module(module, [device])
    artifact.write(folder, built.manifest, built.files, "dir")
    code = folder / json.loads((folder / "manifest.json").read_text())["code"][0]["file"]
    command = [device.compiler, "-O1", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}"]
    command += [str(HERE / "driver.c"), str(code), f"-Wl,-rpath,{code.parent}"]
    subprocess.run([*command, "-o", str(folder / "driver")], check=True, env=dict(os.environ))
    run = (str(folder / "driver"),)
    if device.machine != machine():
        emulator = shutil.which("qemu-aarch64")
        assert emulator, "qemu-aarch64 is missing: apt-get install qemu-user"
        run = (emulator, "-L", SYSROOT, *run)
    return Program(run, folder / "weights.bin")
