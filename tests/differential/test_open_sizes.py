"""Sizes that do not fit together are refused, and nothing is read or written beside a buffer."""

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.frontend import driver

FOLDER = Path(__file__).parent
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def sizes() -> dict[str, Any]:
    """What ``open_sizes.py`` defines."""
    return runpy.run_path(str(FOLDER / "open_sizes.py"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_runs_agree_with_the_evaluator_or_both_refuse_them(sizes: Any, tmp_path: Path):
    found: list[str] = []
    for seed in range(1, 16):
        found += [
            f"seed {seed}: {line}"
            for line in sizes["check"](sizes["draw"](seed), "generic", tmp_path)
        ]
    assert not found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_some_runs_fit_and_some_do_not(sizes: Any):
    outcomes = [o for seed in range(1, 16) for o in sizes["expected"](sizes["draw"](seed))]
    refused = sum(o is sizes["REFUSED"] for o in outcomes)
    assert len(outcomes) // 10 < refused < len(outcomes) * 9 // 10


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_refused_runs_touch_no_memory_of_others(sizes: Any, tmp_path: Path):
    (device,) = driver.targeted("cpu:generic")
    device = replace(device, flags=(*device.flags, *SANITIZE))
    folders = [_prepare(sizes, seed, device, tmp_path / str(seed)) for seed in range(40, 46)]
    done = _run(folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(folders)} artifacts" in done.stdout


def _prepare(sizes: Any, seed: int, device: Any, folder: Path) -> Path:
    folder.mkdir()
    case = sizes["draw"](seed)
    sizes["build"](case, [device], folder / "model.tapeout")
    for i, (inputs, want) in enumerate(zip(case.inputs, sizes["expected"](case), strict=True)):
        _save(folder / f"{i}-inputs.npz", inputs)
        if want is not sizes["REFUSED"]:
            _save(folder / f"{i}-outputs.npz", want)
    return folder


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def _run(folders: list[Path]) -> subprocess.CompletedProcess[str]:
    library = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    return subprocess.run(
        [sys.executable, str(FOLDER / "run_open_sizes.py"), *map(str, folders)],
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )
