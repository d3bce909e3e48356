"""What stands in the way of a program on a GPU is told with a code."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import tapeout
from tapeout.frontend.cli import main
from tapeout.frontend.emulate import code_of, emulated
from tapeout.ir.errors import CompileError
from tapeout.runtime.cpu import machine
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import load
from tapeout.targets.gpu.emulate.driver import Emulator, Table

NO_DEVICE, ILLEGAL_ADDRESS, MISMATCH = 100, 700, 803
"""Results of the driver: as cuda.h numbers them."""


def refused(model: Path, code: str, what: str, **options: Any) -> str:
    """The refusal of a program on a device like this, when it is opened or run."""
    device = Emulator(code_of(model), **options)
    x = np.ones((3, 6), np.float32)
    with (
        pytest.raises(RunError, match=what) as found,
        emulated(model, device) as program,
    ):
        program.run({"x": x, "z": x})
    assert found.value.code == code
    return str(found.value)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="this machine has a GPU's driver")
def test_without_a_driver_it_is_said_how_to_go_on(model: Path) -> None:
    result = command("run", model)
    assert result.exit_code == 1
    assert "error[E0530]" in result.output
    assert "--emulate" in result.output


def test_an_old_driver_is_told_what_it_takes(model: Path) -> None:
    text = refused(model, "E0530", "too old", cuda_version=11_080)
    assert "for CUDA 12.0" in text
    assert "for CUDA 11.8" in text


def test_a_driver_that_does_not_start(model: Path) -> None:
    assert f"({MISMATCH})" in refused(model, "E0530", "does not start", results={"init": MISMATCH})


def test_a_machine_without_a_gpu(model: Path) -> None:
    refused(model, "E0531", "no GPU", results={"init": NO_DEVICE})


@pytest.mark.parametrize("capability", [75, 90, 100])
def test_a_gpu_that_there_is_no_code_for(model: Path, capability: int) -> None:
    text = refused(model, "E0531", "no code for this GPU", capability=capability)
    assert f"{capability // 10}.{capability % 10}" in text


def test_code_runs_on_later_minor_versions(model: Path) -> None:
    device = Emulator(code_of(model), capability=89)
    with emulated(model, device):
        pass


def test_too_little_memory_for_the_weights(model: Path) -> None:
    assert "quantize" in refused(model, "E0516", "for the weights", memory_bytes=100)


def test_too_little_memory_for_the_buffers_of_these_inputs(model: Path) -> None:
    small, large = np.ones((2, 6), np.float32), np.ones((99, 6), np.float32)
    plenty = Emulator(code_of(model))
    with emulated(model, plenty) as program:
        program.run({"x": large, "z": large})
        needed = plenty.memory.used
    device = Emulator(code_of(model), memory_bytes=needed - 1)
    with emulated(model, device) as program:
        with pytest.raises(RunError, match="memory") as found:
            program.run({"x": large, "z": large})
        assert found.value.code == "E0516"
        y = program.run({"x": small, "z": small})["y"]
    np.testing.assert_allclose(y, np.full((2, 6), 1.5), rtol=1e-5)
    assert device.memory.used == 0


@pytest.mark.parametrize(("x", "z", "code"), [(100, 100, "E0513"), (3, 4, "E0514")])
def test_sizes_outside_of_the_guards(model: Path, x: int, z: int, code: str) -> None:
    device = Emulator(code_of(model))
    given = {"x": np.ones((x, 6), np.float32), "z": np.ones((z, 6), np.float32)}
    with pytest.raises(RunError) as found, emulated(model, device) as program:
        program.run(given)
    assert found.value.code == code
    assert device.launches == []


def test_a_code_object_that_is_damaged(model: Path, tmp_path: Path) -> None:
    library = model / "gpu" / f"{machine()}.so"
    cubin = next((model / "src").glob("*.cubin")).read_bytes()
    data = bytearray(library.read_bytes())
    data[data.index(cubin) + len(cubin) // 2] ^= 1
    damaged = tmp_path / "model"
    for file in (f for f in model.rglob("*") if f.is_file()):
        copy = damaged / file.relative_to(model)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(bytes(data) if file == library else file.read_bytes())
    with pytest.raises(RunError, match="E0503"):
        load(damaged)
    with pytest.raises(RunError, match="INVALID_IMAGE") as found:
        load(damaged, verify=False, driver=Emulator(code_of(model)).table)
    assert found.value.code == "E0533"


def test_what_the_driver_reports_names_the_step(model: Path) -> None:
    text = refused(model, "E0532", "reports an error", results={"launch": ILLEGAL_ADDRESS})
    assert f"({ILLEGAL_ADDRESS})" in text
    assert "k0_" in text
    assert "taking memory" in refused(model, "E0532", "700", results={"allocate": ILLEGAL_ADDRESS})
    assert "bringing weights" in refused(model, "E0532", "INVALID_VALUE", results={"to_device": 1})
    assert "taking outputs back" in refused(model, "E0532", "INVALID_VALUE", results={"to_host": 1})


def test_a_run_after_one_that_failed_is_right(model: Path) -> None:
    device = Emulator(code_of(model))
    x = np.ones((2, 6), np.float32)
    with emulated(model, device) as program:
        for function in ("to_device", "launch", "wait"):
            device.results[function] = 1
            with pytest.raises(RunError, match="E0532"):
                program.run({"x": x, "z": x})
            del device.results[function]
            y = program.run({"x": x, "z": x})["y"]
            np.testing.assert_allclose(y, np.full((2, 6), 1.5), rtol=1e-5)


def test_programs_for_cpus_are_not_emulated(tmp_path: Path) -> None:
    import onnx.parser

    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[N] x) => (y) { y = Neg(x) }'
    path = tapeout.compile(onnx.parser.parse_model(text), output=tmp_path / "model.tapeout")
    result = command("run", path, "--emulate")
    assert result.exit_code == 2
    assert "only programs for GPUs are emulated" in result.output
    with pytest.raises(RunError, match="E0505"):
        load(path, driver=Table())


@pytest.mark.parametrize("target", ["gpu:sm_70", "gpus"])
def test_a_target_that_there_is_not(model: Path, target: str) -> None:
    with pytest.raises(CompileError, match="E0101"):
        tapeout.compile(model, target)


def test_commands_that_run_what_they_compile_want_a_cpu(tmp_path: Path) -> None:
    result = command("bisect", tmp_path / "model.onnx", "--target", "gpu")
    assert result.exit_code == 2
    assert "use --target cpu" in result.output
