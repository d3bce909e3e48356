"""Generated C under the address and undefined-behaviour sanitizers.

numpy's own memory is watched too, so that an element read or written beside an input or output
is a fault, and so is one beside the runtime's blocks.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.frontend import driver
from tapeout.ir.evaluator import evaluate
from tapeout.targets.cpu import target
from tapeout.targets.cpu.device import Device
from tapeout.targets.host.build import build

SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUNNER = Path(__file__).parent / "run_artifacts.py"


def sanitized(name: str) -> Device:
    """A device whose programs watch themselves; ``cpu`` is this machine's best."""
    (device,) = driver.targeted(name)
    return replace(device, flags=(*device.flags, *SANITIZE))


def prepare(graphs: Any, case: Any, device: Device, folder: Path) -> Path:
    """An artifact with what it is to be run on."""
    folder.mkdir()
    graphs.build(case, [device], folder / "model.tapeout")
    for i, inputs in enumerate(case.inputs):
        save(folder / f"{i}-inputs.npz", inputs)
        save(folder / f"{i}-outputs.npz", evaluate(case.module, inputs))
    return folder


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def run(*folders: Path) -> subprocess.CompletedProcess[str]:
    library = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        # Python does not free what it holds at its end.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run(
        [sys.executable, str(RUNNER), *map(str, folders)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["cpu:generic", "cpu"])
def test_random_graphs_run_clean(graphs: Any, tmp_path: Path, name: str):
    device = sanitized(name)
    cases = [graphs.draw(seed, graphs.MOVES, runs=2) for seed in range(300, 303)]
    flow = (*graphs.MOVES, *graphs.FLOW * 4)
    cases += [graphs.draw(seed, flow, runs=3) for seed in range(400, 403)]
    folders = [prepare(graphs, c, device, tmp_path / str(c.seed)) for c in cases]
    done = run(*folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(cases)} artifacts" in done.stdout


def test_a_write_outside_of_an_output_is_noticed(
    graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def shifted(everything: Mapping[str, bytes]) -> dict[str, bytes]:
        shift = rb"y0 = (void *)((char *)b[\1] + 65536);"
        return {n: re.sub(rb"y0 = b\[(\d+)\];", shift, text) for n, text in everything.items()}

    def broken(files: Mapping[str, bytes], device: Device) -> bytes:
        return build(shifted(files), device)

    device, case = sanitized("cpu:generic"), graphs.draw(301, graphs.MOVES, runs=1)
    monkeypatch.setattr(target, "build", broken)
    done = run(prepare(graphs, case, device, tmp_path / "broken"))
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr
