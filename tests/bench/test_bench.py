"""The harness measures every engine, compares their outputs, and says so when one fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.models

OURS_QUICK = (
    *("--models", "mlp", "--threads", "1", "--rounds", "3", "--seconds", "1"),
    *("--against", "onnxruntime"),
)
QUICK = (*OURS_QUICK, "--peers-only")


def _bench(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _results(script: str, folder: Path) -> dict[str, Any]:
    file = folder / "results.json"
    result = _bench(script, *QUICK, "--json", str(file))
    assert result.returncode == 0, result.stderr
    return json.loads(file.read_text())


def test_latency_measures_every_engine_under_measured_ceilings(tmp_path: Path) -> None:
    results = _results("latency.py", tmp_path)
    (ceilings,) = results["ceilings"]
    assert ceilings["fma_gflops"] > 1
    assert ceilings["read_gb_s"] > 0.1
    (row,) = results["latency"]
    assert set(row["timings"]) == {"onnxruntime"}
    for timing in row["timings"].values():
        assert 0 < timing["lowest"] <= timing["median"] <= timing["highest"]
        assert timing["turns"] == 3
    assert max(row["errors"].values()) < 1e-4
    # A model's products cannot be faster than the machine's fused multiply-adds.
    fastest = min(timing["lowest"] for timing in row["timings"].values())
    assert row["flop"] / fastest / 1e9 < ceilings["fma_gflops"]


def test_int8_is_measured_beside_f32_and_against_the_faster_form_of_the_peers(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results.json"
    result = _bench("quant.py", *OURS_QUICK, "--json", str(file))
    assert result.returncode == 0, result.stderr
    row = json.loads(file.read_text())["quant"][0]
    peers = ("onnxruntime per tensor", "onnxruntime per channel")
    timings, errors = row["timings"], row["errors"]
    assert row["format"] == "int8-dynamic"
    assert set(timings) == {"tapeout f32", "tapeout int8-dynamic", *peers}
    assert all(timing["cpu_lowest"] > 0 for timing in timings.values())
    faster = min(peers, key=lambda name: timings[name]["median"])
    ratio = timings["tapeout int8-dynamic"]["median"] / timings[faster]["median"]
    assert f"mlp int8-dynamic, 1 thread: {ratio:.2f} of {faster}'s time" in result.stdout
    # Bytes were computed with, and they stand for about the same numbers.
    assert errors.pop("tapeout f32") < 1e-5
    assert all(1e-4 < error < 0.1 for error in errors.values())


def test_a_format_that_is_refused_is_told_and_nothing_failed(tmp_path: Path) -> None:
    (tmp_path / "refusing.py").write_text(
        "import sys, quant\n"
        "quant.FORMATS = {'mlp': ('w4g33',)}\n"
        "quant.PEERS = {'w4g33': lambda model, engines: {}}\n"
        "sys.exit(quant.main(sys.argv[1:]))\n"
    )
    file = tmp_path / "results.json"
    result = subprocess.run(
        [sys.executable, str(tmp_path / "refusing.py"), *OURS_QUICK, "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(HERE)},
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(file.read_text())["quant"]
    assert set(row["timings"]) == {"tapeout f32"}
    assert row["refusals"]["tapeout w4g33"] in result.stdout


def test_calls_are_measured_plain_and_bound(tmp_path: Path) -> None:
    rows = _results("calls.py", tmp_path)["calls"]
    assert [row["way"] for row in rows] == ["plain", "bound"]


def test_footprint_counts_what_a_process_holds_at_its_peak(tmp_path: Path) -> None:
    (row,) = _results("footprint.py", tmp_path)["footprint"]
    assert row["peak_bytes"] > row["weights_bytes"] > 0


def test_starts_are_measured_in_environments_that_hold_the_wheel_and_numpy_only() -> None:
    """One that held more, or our sources by an import hook, would start later than a user's."""
    code = (
        "import sys, tapeout.runtime.program, importlib.metadata as m;"
        "print(tapeout.__file__, len(sys.meta_path), *sorted(d.name for d in m.distributions()))"
    )
    find = f"import sys; sys.path.insert(0, {str(HERE)!r}); import installs"
    found = subprocess.run(
        [sys.executable, "-c", f"{find}; print(installs.with_tapeout())"],
        capture_output=True,
        text=True,
        check=True,
    )
    python = Path(found.stdout.strip())
    told = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    place, hooks, *packages = told.stdout.split()
    assert Path(place).is_relative_to(python.parents[1])
    assert int(hooks) == 3  # Python's own
    assert packages == ["numpy", "tapeout"]


def test_an_engine_that_fails_is_named_and_ends_the_run_with_1(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    result = subprocess.run(
        [sys.executable, str(HERE / "latency.py"), *QUICK, "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 1
    assert "failed" in result.stdout
    (failure,) = json.loads(file.read_text())["failures"]
    assert failure.startswith("onnxruntime on mlp: ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--models", "resnet51"), "resnet51"), (("--against", "onnx-runtime"), "onnx-runtime")],
)
def test_an_unknown_name_is_wrong_usage(arguments: tuple[str, str], named: str) -> None:
    result = _bench("latency.py", "--threads", "1", "--peers-only", *arguments)
    assert result.returncode == 2
    assert named in result.stderr
