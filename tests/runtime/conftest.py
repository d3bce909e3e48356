"""Hand-written models in C, built once, packed as artifacts."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tapeout.runtime import cpu
from tapeout.runtime.artifact import Code, Kernel, Manifest, Port, Symbol, c_sources, write

HERE = Path(__file__).parent
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread", "-g")
SHARED = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden")

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def runtime_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C runtime as the artifact writer ships it."""
    folder = tmp_path_factory.mktemp("c")
    for name, text in c_sources().items():
        (folder / name).write_bytes(text)
    return folder


@pytest.fixture(scope="session")
def build(runtime_c: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build("mlp.c", driver="fixed.c", flags=[...])``: compile with the C runtime, once each."""
    built: dict[object, Path] = {}

    def compile_(
        model: str, driver: str | None = None, flags: Sequence[str] = (), cc: str = "gcc"
    ) -> Path:
        key = (model, driver, tuple(flags), cc)
        if key not in built:
            target = tmp_path_factory.mktemp("build") / Path(model).stem
            sources = [HERE / "models" / model, *sorted(runtime_c.glob("*.c"))]
            sources += [HERE / "drivers" / driver] if driver else []
            kind = () if driver else SHARED
            command = [cc, *STRICT, *kind, *flags, f"-I{runtime_c}", *map(str, sources)]
            subprocess.run([*command, "-o", str(target)], check=True)
            built[key] = target
        return built[key]

    return compile_


MLP_WEIGHTS = ((np.arange(192) % 5 - 2) * 0.25).astype(np.float32)

MANIFESTS = {
    "mlp": Manifest(
        model="mlp",
        target="cpu",
        inputs=(Port("x", "f32", (1, 8)),),
        outputs=(Port("y", "f32", (1, 4)),),
        kernels=(Kernel("product_relu", 256, 608), Kernel("product", 128, 336)),
    ),
    "scale": Manifest(
        model="scale",
        target="cpu",
        inputs=(Port("a", "f32", ("B", "S", 4)), Port("b", "f32", ("B", "S", 4))),
        outputs=(Port("out", "f32", ("B", "S", 4)), Port("last", "f32", ("2*S",))),
        symbols=(Symbol("B", 0, 1 << 20), Symbol("S", 1, 1 << 50)),
        kernels=(Kernel("twice", "4*B*S", "32*B*S"), Kernel("add", "4*B*S", "48*B*S")),
    ),
    "positive": Manifest(
        model="positive",
        target="cpu",
        inputs=(Port("x", "i64", ("N",)),),
        outputs=(Port("index", "i64", ("positives",)), Port("value", "i64", ("positives",))),
        symbols=(Symbol("N", 0, 1 << 20),),
        kernels=(Kernel("positive"),),
    ),
}


@pytest.fixture
def mlp_weights() -> np.ndarray:
    return MLP_WEIGHTS


@pytest.fixture
def mlp_reference() -> Callable[[np.ndarray], np.ndarray]:
    first, second = MLP_WEIGHTS[:128].reshape(8, 16), MLP_WEIGHTS[128:].reshape(16, 4)
    return lambda x: np.maximum(x @ first, 0) @ second


@pytest.fixture
def artifact(build: Build, tmp_path: Path) -> Callable[..., Path]:
    """``artifact("mlp", format="dir")``: a model built for this machine and packed."""

    def pack(model: str, format: Literal["file", "dir"] = "file") -> Path:
        path = tmp_path / f"{model}.{format}.tapeout"
        code = Code("generic", cpu.machine(), (), "cpu/generic.so")
        files: dict[str, bytes | Path] = {"cpu/generic.so": build(f"{model}.c")}
        files |= {f"src/{name}": text for name, text in c_sources().items()}
        files["src/model.c"] = HERE / "models" / f"{model}.c"
        if model == "mlp":
            files["weights.bin"] = MLP_WEIGHTS.tobytes()
        write(path, MANIFESTS[model]._replace(code=(code,)), files, format)
        return path

    return pack
