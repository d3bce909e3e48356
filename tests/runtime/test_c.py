"""The C runtime by itself: programs without Python, under sanitizers, and on another machine."""

import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tapeout.runtime.archive import Archive
from tapeout.runtime.artifact import c_sources
from tapeout.runtime.program import load

Pack = Callable[..., Path]
Build = Callable[..., Path]

HERE = Path(__file__).parent
STRICT = ("-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread")
THREAD = ("-fsanitize=thread", "-O1")
ADDRESS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1")
AARCH64 = ("-static", "-O1")


def run(program: Path, *words: object, stdin: str = "") -> str:
    # The thread sanitizer of older compilers needs the address space laid out as of old.
    command = ["setarch", platform.machine(), "-R", str(program), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def weights_file(tmp_path: Path, mlp_weights: NDArray[np.float32]):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"junk" + mlp_weights.tobytes())
    return path


@pytest.mark.parametrize("flags", [ADDRESS, THREAD, ("-O3", "-march=native")])
def test_fixed_model_runs_without_python(
    build: Build, weights_file: Path, mlp_reference: Callable[[Any], Any], flags: Sequence[str]
) -> None:
    out = run(build("mlp.c", "fixed.c", flags), weights_file, 4, 2)
    expected = mlp_reference([[i - 3.0 for i in range(8)]])[0]
    assert [float(line) for line in out.split()] == pytest.approx(list(expected))


def test_program_is_built_from_an_artifact_folder(artifact: Pack, mlp_reference: Any) -> None:
    """Nothing but the folder, a compiler and the driver."""
    folder = artifact("mlp", "dir")
    program = folder / "fixed"
    sources = sorted((folder / "src").glob("*.c"))
    command = ["gcc", *STRICT, HERE / "drivers" / "fixed.c", *sources, "-o", program]
    subprocess.run([*command, f"-I{folder / 'src'}"], check=True)
    out = run(program, folder / "weights.bin", 0, 2)
    expected = mlp_reference([[i - 3.0 for i in range(8)]])[0]
    assert [float(line) for line in out.split()] == pytest.approx(list(expected))
    load(folder).close()  # a file beside the artifact's own does not spoil it


def test_weights_are_mapped_from_within_the_zip(
    artifact: Pack, build: Build, mlp_reference: Any
) -> None:
    path = artifact("mlp")
    archive = Archive(path)
    offset = archive.places["weights.bin"].offset
    archive.close()
    out = run(build("mlp.c", "fixed.c", ADDRESS), path, offset, 2)
    expected = mlp_reference([[i - 3.0 for i in range(8)]])[0]
    assert [float(line) for line in out.split()] == pytest.approx(list(expected))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("flags", [ADDRESS, THREAD, ("-O3",)])
def test_pool_is_right_at_every_size_and_thread_count(
    build: Build, flags: Sequence[str], threads: int
) -> None:
    run(build("scale.c", "stress.c", flags), threads, 3000)


@pytest.mark.parametrize("flags", [ADDRESS, ("-O3",)])
def test_sizes_known_only_while_running(build: Build, flags: Sequence[str]) -> None:
    assert "error[E0515]" in run(build("positive.c", "late.c", flags))


def test_sizes_beyond_memory_are_refused(build: Build) -> None:
    out = run(build("scale.c", "large.c", ADDRESS))
    assert [line for line in out.splitlines() if "error" in line] == [
        "error[E0516]: there is no memory for output 'last'",
        "error[E0516]: there is no memory for the model's buffers at this input size",
    ]


def test_nothing_is_allocated_by_a_warm_call(build: Build) -> None:
    names = ("malloc", "calloc", "aligned_alloc", "mmap")
    wrap = "-Wl," + ",".join(f"--wrap={name}" for name in names)
    warming, warm = run(build("scale.c", "allocations.c", ("-O2", wrap))).split()
    assert int(warming) > 0
    assert int(warm) == 0


def test_idle_pool_uses_no_cpu(build: Build) -> None:
    assert float(run(build("scale.c", "idle.c", ("-O2",)))) < 20_000


def test_pool_and_models_on_aarch64(build: Build, weights_file: Path) -> None:
    cc = "aarch64-linux-gnu-gcc"
    qemu = "qemu-aarch64"
    stress = build("scale.c", "stress.c", AARCH64, cc)
    subprocess.run([qemu, stress, "4", "300"], check=True, timeout=300)
    subprocess.run([qemu, build("positive.c", "late.c", AARCH64, cc)], check=True, timeout=300)
    fixed = build("mlp.c", "fixed.c", AARCH64, cc)
    subprocess.run([qemu, fixed, weights_file, "4", "2"], check=True, timeout=300)


def test_two_models_link_into_one_program(runtime_c: Path, tmp_path: Path) -> None:
    objects: list[Path] = []
    for model in ("mlp", "scale"):
        for source in [*sorted(runtime_c.glob("*.c")), HERE / "models" / f"{model}.c"]:
            target = tmp_path / f"{model}_{source.stem}.o"
            prefix = f"-DTAPEOUT_PREFIX={model}"
            command = ["gcc", *STRICT, prefix, f"-I{runtime_c}", "-c", source, "-o", target]
            subprocess.run(command, check=True)
            objects.append(target)
    program = tmp_path / "both"
    driver = HERE / "drivers" / "two_models.c"
    command = ["gcc", *STRICT, f"-I{runtime_c}", driver, *objects, "-o", program]
    subprocess.run(command, check=True)
    assert run(program).split() == ["18", "12", "x", "a"]


def test_shared_object_exports_the_c_interface_only(build: Build) -> None:
    command = ["nm", "-D", "--defined-only", "--format=posix", build("mlp.c")]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    names = {line.split()[0] for line in lines}
    functions = "describe open open_memory close run output_shapes error profile counters memory"
    assert names == {f"tapeout_{name}" for name in [*functions.split(), "checksum", "checksum_of"]}


def test_header_is_good_cpp(runtime_c: Path, tmp_path: Path) -> None:
    source = tmp_path / "user.cc"
    source.write_text('#include "tapeout.h"\nint main() { return tapeout_describe()->abi; }\n')
    flags = ("-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
    command = ["g++", *flags, f"-I{runtime_c}", "-c", source, "-o", tmp_path / "user.o"]
    subprocess.run(command, check=True)


def test_every_file_compiles_alone_without_a_warning(runtime_c: Path, tmp_path: Path) -> None:
    assert set(c_sources()) == {path.name for path in runtime_c.iterdir()}
    for source in sorted(runtime_c.glob("*.c")):
        for cc in ("gcc", "aarch64-linux-gnu-gcc"):
            command = [cc, *STRICT, "-Wconversion", "-c", source, "-o", tmp_path / "one.o"]
            subprocess.run(command, check=True)


def test_open_tells_why_it_failed(build: Build, tmp_path: Path) -> None:
    short = tmp_path / "short.bin"
    short.write_bytes(b"1234")
    fixed = build("mlp.c", "fixed.c", ADDRESS)
    for path, offset in ((short, 0), (tmp_path / "absent", 0), (short, -1)):
        done = subprocess.run([fixed, path, str(offset), "1"], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error[E0506]: ")
