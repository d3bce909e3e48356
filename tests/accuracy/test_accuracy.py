"""The program: formats as they are asked for, limits that bite, refusals that are told."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

ACCURACY = Path(__file__).with_name("accuracy.py")


def _accuracy(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ACCURACY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "quantize", "sparsify"),
    [
        ("fp32", None, None),
        ("int8", "int8", None),
        ("layers.toml", "layers.toml", None),
        ("sparsify=2:4", None, "2:4"),
        ("int8+sparsify=4x1", "int8", "4x1"),
        ("int8+sparsify=4x1@0.5", "int8", "4x1@0.5"),
        ("w8+w4g32@cosine=0.01", "w8+w4g32", None),
    ],
)
def test_a_format_says_what_the_compiler_is_told(
    script: Callable[[str], Any], name: str, quantize: str | None, sparsify: str | None
) -> None:
    format = script("formats").Format.parse(name)
    assert (format.quantize, format.sparsify) == (quantize, sparsify)


def test_every_limit_is_of_a_model_and_format_that_is_measured(
    script: Callable[[str], Any],
) -> None:
    formats = script("formats")
    for model, format in formats.LIMITS:
        assert model in script("tasks").TASKS
        assert format in (*formats.FORMATS, formats.BUDGETS.get(model))


def test_a_loss_beyond_the_limit_or_not_a_number_is_missed(script: Callable[[str], Any]) -> None:
    verdict = script("report").verdict
    assert verdict(0.5, 0.5) == "ok"
    assert verdict(-3.0, 0.5) == "ok"
    assert verdict(0.51, 0.5) == "missed"
    assert verdict(float("nan"), 0.5) == "missed"
    assert verdict(99.0, None) == "reported"


@pytest.mark.parametrize(
    ("state", "limit", "strict", "status"),
    [
        ("ok", 1.0, True, 0),
        ("reported", None, True, 0),
        ("missed", 1.0, False, 1),
        ("refused", 1.0, False, 0),
        ("refused", 1.0, True, 1),
        ("refused", None, True, 0),
    ],
)
def test_the_status_tells_what_the_run_comes_to(
    script: Callable[[str], Any], state: str, limit: float | None, strict: bool, status: int
) -> None:
    report = script("report")
    good = report.Row("digits", "fp32", "accuracy %", "ok", 99.0, 0.0, 0.0, 1)
    row = report.Row("digits", "int8", "accuracy %", state, limit=limit)
    assert report.status([good, row], strict=strict) == status


@pytest.mark.parametrize(("quality", "state"), [(1.0, "ok"), (0.0, "missed")])
def test_a_format_is_held_to_its_limit(
    script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    quality: float,
    state: str,
) -> None:
    accuracy, model = _stand_in(script, monkeypatch, tmp_path, quality)
    format = script("formats").Format.parse("int8")
    row = accuracy.judged(script("tasks").TASKS["digits"], model, format, tmp_path)
    assert (row.state, row.value, row.artifact_bytes) == (state, 100.0 * quality, 3)


def _stand_in(
    script: Callable[[str], Any], patch: pytest.MonkeyPatch, folder: Path, quality: float
) -> tuple[Any, Any]:
    """Return the program with a compiler whose artifacts are right or wrong, and a model."""
    accuracy = script("accuracy")
    labels = np.arange(40) % 10
    right = np.eye(10, dtype=np.float32)[labels]
    images = labels.astype(np.float32).reshape(-1, 1, 1, 1)
    np.savez(folder / "test.npz", images=images, labels=labels, logits=right)

    class Program:
        def __enter__(self) -> "Program":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            off = 0 if quality else 1
            number = (inputs["image"].reshape(-1).astype(int) + off) % 10
            return {"logits": np.eye(10, dtype=np.float32)[number]}

    def compile(path: Path, output: Path, **options: object) -> Path:
        assert options["quantize"] == "int8,always"
        output.write_bytes(b"abc")
        return output

    def load(_: Path) -> Program:
        return Program()

    patch.setattr(accuracy.tapeout, "compile", compile)
    patch.setattr(accuracy.tapeout, "load", load)
    return accuracy, script("tasks").Model("digits", folder, {})


def test_a_refusal_is_reported_with_its_code(
    script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> Path:
        raise CompileError("E0199", "there is no format 'int9'", [("known", "[int8]")])

    accuracy = script("accuracy")
    monkeypatch.setattr(accuracy.tapeout, "compile", refuse)
    tasks = script("tasks")
    format = script("formats").Format.parse("int9")
    row = accuracy.judged(tasks.TASKS["digits"], tasks.Model("", tmp_path, {}), format, tmp_path)
    assert (row.state, row.value) == ("refused", None)
    script("report").show([row, row])
    printed = capsys.readouterr().out
    assert printed.count("refused E0199") == 2
    assert printed.count("error[E0199]: there is no format 'int9'") == 1
    assert "[int8]" in printed


def test_an_unknown_model_is_wrong_usage() -> None:
    result = _accuracy("--models", "digits,digit")
    assert result.returncode == 2
    assert "no model digit; known: digits, minilm, charlm" in result.stderr


@pytest.mark.models
def test_the_classifier_as_compiled_is_as_accurate_as_torch(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    result = _accuracy("--models", "digits", "--formats", "fp32,no-such", "--json", str(file))
    assert result.returncode == 0, result.stderr
    fp32, unknown = json.loads(file.read_text())
    assert (fp32["state"], fp32["change"]) == ("ok", 0.0)
    assert fp32["value"] > 95
    assert fp32["artifact_bytes"] > 100_000
    assert unknown["state"] == "refused"
    assert unknown["error"].startswith("error[E")
    assert unknown["error"].splitlines()[0] in result.stdout
