"""What the launcher hands to kernels: whole plans of launches, and faults that are planted."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.frontend.emulate import code_of, emulated
from tapeout.ir.errors import CompileError
from tapeout.runtime import artifact
from tapeout.runtime.artifact import Manifest
from tapeout.runtime.cpu import machine
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import load
from tapeout.targets.gpu.emulate.driver import Emulator
from tapeout.targets.gpu.emulate.memory import UNWRITTEN, DeviceMemory
from tapeout.targets.gpu.target import FUNCTIONS, Host
from tapeout.targets.host.build import build

Edit = Callable[[str], str]
X = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_kernels_are_launched_in_their_order_on_buffers_and_sizes(model: Path) -> None:
    device = Emulator(code_of(model))
    with emulated(model, device) as program:
        y = program.run({"x": X, "z": X})["y"]
    np.testing.assert_allclose(y, softmax(softmax(X, 1), 0) + X, rtol=1e-5)
    rows = {row["name"]: row for row in json.loads((model / FUNCTIONS).read_text())}
    order = [rows[launch.function]["kernel"] for launch in device.launches]
    assert order == ["k0_matmul", "k1_softmax", "k0_matmul", "k2_softmax", "k3_matmul_add"]
    for launch in device.launches:
        kinds = [argument["type"] for argument in rows[launch.function]["arguments"]]
        numbers = [v for v, k in zip(launch.arguments, kinds, strict=True) if k[0] != "*"]
        assert set(numbers) <= {len(X)}
    # What one product writes, the softmax behind it reads.
    assert device.launches[0].arguments[2] == device.launches[1].arguments[0]


def test_a_second_run_launches_the_same_on_the_same_memory(model: Path) -> None:
    device = Emulator(code_of(model))
    with emulated(model, device) as program:
        for _ in "12":
            program.run({"x": X, "z": X})
        half = len(device.launches) // 2
        assert device.launches[:half] == device.launches[half:]
        held = device.memory.used
        program.run({"x": X[:2], "z": X[:2]})
        assert device.memory.used == held
    assert device.memory.used == 0


def test_kernels_are_timed_one_by_one(model: Path) -> None:
    with emulated(model) as program:
        kernels = program.profile({"x": X, "z": X}, runs=2)
    assert [kernel.calls for kernel in kernels] == [4, 2, 2, 2]
    assert all(kernel.nanoseconds > 0 for kernel in kernels)


def test_evidence_tells_what_every_function_takes(model: Path) -> None:
    rows = json.loads((model / FUNCTIONS).read_text())
    for row in rows:
        assert row["code"]["sm_80"]["registers"] > 0
        assert row["code"]["sm_80"]["spilled_bytes"] == 0
        assert f"def {row['name']}(" in (model / "gpu" / "kernels.py").read_text()


def test_compiling_twice_gives_the_same_bytes(
    model: Path, make_model: Callable[[Path], Path], tmp_path: Path
) -> None:
    again = make_model(tmp_path / "again")
    files = sorted(f.relative_to(model) for f in model.rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(again) for f in again.rglob("*") if f.is_file())
    assert [f for f in files if (model / f).read_bytes() != (again / f).read_bytes()] == []


def test_the_launcher_does_nothing_that_c_leaves_undefined(model: Path, tmp_path: Path) -> None:
    sources = {f.name: f.read_bytes() for f in (model / "src").iterdir()}
    stop = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
    checked = built_again(model, tmp_path / "checked", sources, *stop)
    device = Emulator(code_of(model))
    with load(checked, driver=device.table) as program:
        for rows in (5, 2):
            y = program.run({"x": X[:rows], "z": X[:rows]})["y"]
    np.testing.assert_allclose(y, softmax(softmax(X[:2], 1), 0) + X[:2], rtol=1e-5)


# Planted faults: the program is built again from sources that were changed.


def planted(model: Path, folder: Path, file: str, edit: Edit) -> Path:
    """A copy of a program in which one source is another."""
    sources = {f.name: f.read_bytes() for f in (model / "src").iterdir()}
    text = sources[file].decode()
    sources[file] = edit(text).encode()
    assert sources[file].decode() != text, "the fault is there"
    return built_again(model, folder, sources)


def built_again(model: Path, folder: Path, sources: Mapping[str, bytes], *flags: str) -> Path:
    """A copy of a program, its library built from these sources."""
    files = {str(f.relative_to(model)): f.read_bytes() for f in model.rglob("*") if f.is_file()}
    manifest = Manifest.from_json(files.pop("manifest.json"))
    files[f"gpu/{machine()}.so"] = build(sources, Host(machine()), flags)
    artifact.write(folder, manifest, files, "dir")
    return folder


def lives_end_early(text: str) -> str:
    head, lives, rest = re.split(r"(static const rt_life lives\[\] = .*;)", text)
    return head + re.sub(r"\{(\d+), (\d+)\}", r"{\1, \1}", lives) + rest


def one_program_more(text: str) -> str:
    return re.sub(r"(rt_launch\(s, 0, .*), arguments\);", r"\1 + 1, arguments);", text)


def too_far(text: str) -> str:
    return text.replace("data + offsets[i]", "data + offsets[i] + 512")


def oblique(text: str) -> str:
    return text.replace("data + offsets[i]", "data + offsets[i] + 4")


def no_inputs(text: str) -> str:
    return text.replace("upload(device, block->data, inputs[i].data, bytes,", "(void)(")


@pytest.mark.parametrize(
    ("file", "edit", "code", "what"),
    [
        ("model.c", lives_end_early, "E0908", "share memory"),
        ("launch.c", one_program_more, "E0907", "does not fit"),
        ("arena.c", too_far, "E0908", "beyond its end"),
        ("arena.c", oblique, "E0907", "multiple of 16"),
        ("memory.c", no_inputs, "E0908", "holds nothing"),
    ],
    ids=["lives", "programs", "end", "alignment", "inputs"],
)
def test_a_planted_fault_is_found(
    model: Path, tmp_path: Path, file: str, edit: Edit, code: str, what: str
) -> None:
    wrong = planted(model, tmp_path / "wrong", file, edit)
    device = Emulator(code_of(model))
    with load(wrong, driver=device.table) as program:
        with pytest.raises(RunError, match="E0532"):
            program.run({"x": X, "z": X})
    assert device.fault is not None
    assert device.fault.code == code
    assert what in str(device.fault)


# The emulated memory by itself.


def bytes_of(count: int) -> Any:
    return np.arange(count, dtype=np.uint8)


def test_memory_is_bounded_and_never_the_same_again() -> None:
    memory = DeviceMemory(limit=1000)
    first = memory.allocate(600)
    assert first is not None
    assert memory.allocate(600) is None
    memory.free(first)
    second = memory.allocate(600)
    assert second not in (None, first)
    with pytest.raises(CompileError, match="freed"):
        memory.write(first, bytes_of(4), "a test")
    with pytest.raises(CompileError, match="not there"):
        memory.free(first)
    with pytest.raises(CompileError, match="no memory has this address"):
        memory.read(64, 4, "a test")


def test_a_value_is_read_whole_while_nothing_has_taken_a_part_of_it() -> None:
    memory = DeviceMemory()
    base = memory.allocate(100)
    assert base is not None
    with pytest.raises(CompileError, match="holds nothing"):
        memory.read(base, 1, "a test")
    assert memory.find(base, 100, "a test")[0].data[0] == UNWRITTEN
    its, _ = memory.find(base, 100, "a test")
    its.write(0, 40)
    memory.write(base + 8, bytes_of(8), "an update")
    assert memory.read(base, 40, "a test")[8:16].tolist() == list(range(8))
    with pytest.raises(CompileError, match="rest of something else"):
        memory.read(base, 20, "a test")
    memory.read(base, 20, "the host", part=True)
    its.write(30, 60)
    with pytest.raises(CompileError, match="rest of something else"):
        memory.read(base, 40, "a test")
    memory.read(base + 30, 30, "a test")


def test_a_stack_of_slices_is_a_value() -> None:
    memory = DeviceMemory()
    base = memory.allocate(100)
    assert base is not None
    for i in range(4):
        memory.write(base + 10 * i, bytes_of(10), "a slice")
    memory.read(base, 40, "a test")
    with pytest.raises(CompileError, match="holds nothing"):
        memory.read(base, 41, "a test")
