"""Language models for the peers hold the numbers that they say; torch is measured on them."""

# gguf's functions do not say which arrays they return.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

HERE = Path(__file__).parent

HALF_ROUNDING = 2**-11
ROUNDING = {"F32": 0, "BF16": 0, "Q8_0": 0.5 / 127 + HALF_ROUNDING, "Q4_0": 1 / 8 + HALF_ROUNDING}
"""Of a value, as a share of the largest of its 32: half a step, or in Q4_0 a whole one at the end
that has none, and the rounding of the scale, which is of half precision."""


@pytest.fixture(name="models")
def _models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setenv("TAPEOUT_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    return importlib.import_module("llm_models")


def shapes() -> ModuleType:
    return importlib.import_module("llm_shapes")


def test_checkpoints_of_both_formats_hold_the_same_numbers(models: ModuleType) -> None:
    shape = shapes().SHAPES["tiny"]
    f32, bf16 = (
        load_file(models.checkpoint(shape, f) / "model.safetensors") for f in models.DTYPES
    )
    assert {name: values.shape for name, values in f32.items()} == shape.tensors()
    for name, values in f32.items():
        assert values.dtype == np.float32
        assert bf16[name].dtype == "bfloat16"
        np.testing.assert_array_equal(values, bf16[name].astype(np.float32))
        assert np.unique(values).size > values.size / 50  # drawn, not filled


def test_a_checkpoint_is_made_once(models: ModuleType) -> None:
    shape = shapes().SHAPES["tiny"]
    file = models.checkpoint(shape, "f32") / "model.safetensors"
    written = file.stat().st_mtime_ns
    assert models.checkpoint(shape, "f32") / file.name == file
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize("format", ROUNDING)
def test_gguf_holds_the_checkpoint_with_rotated_rows_side_by_side(
    models: ModuleType, format: str
) -> None:
    shape = shapes().SHAPES["tiny"]
    tensors = gguf.GGUFReader(models.gguf_file(shape, format)).tensors
    held = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in tensors}
    right = dict(models.weights(shape))
    assert len(held) == len(right)
    half = shape.head_size // 2
    # Row r of a head in GGUF is row r // 2 of the first or second half in the checkpoint.
    order = [r // 2 + half * (r % 2) for r in range(shape.head_size)]
    rows = {
        "attn_q": [h * shape.head_size + r for h in range(shape.heads) for r in order],
        "attn_k": [h * shape.head_size + r for h in range(shape.kv_heads) for r in order],
    }
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    for name, values in right.items():
        renamed = names.get_name(name, (".weight",))
        assert renamed is not None
        expected = values[rows.get(renamed.split(".")[-2], slice(None))]
        blocks = expected.reshape(-1, 32 if values.ndim > 1 else 1)
        off = np.abs(held[renamed].reshape(blocks.shape) - blocks).max(axis=1)
        share = ROUNDING[format] if values.ndim > 1 else 0
        assert (off <= share * np.abs(blocks).max(axis=1)).all(), name


@pytest.mark.models
def test_engines_are_measured_in_turns_and_started_from_nothing(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    options = ("--shape", "tiny", "--layers", "1", "--threads", "1", "--rounds", "1")
    contest = ("--engines", "tapeout,torch", "--formats", "bf16", "--json", str(file))
    result = subprocess.run(
        [sys.executable, str(HERE / "llm_peers.py"), *options, *contest],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads(file.read_text())
    ours, torch = results["llm"]
    assert ours["engine"] == "tapeout:bf16"
    assert torch["engine"] == "torch:bf16"
    # Products of one layer and of the head, and three norms: two bytes each.
    layer = 64 * (64 + 32 + 32 + 64 + 3 * 96)
    assert torch["decode_bytes"] == 2 * (layer + 512 * 64 + 3 * 64)
    # The file of one is read as it lies; the other has a folder.
    assert ours["file_gb_s"] > 0.1
    assert torch["file_gb_s"] is None
    for row in (ours, torch):
        for what in ("prefill", "decode", "first_token"):
            assert row[what]["median"] > 0
            assert row[what]["cpu_lowest"] > 0
        # Loading is a part of a process.
        assert 0 < row["load"] < row["first_token"]["highest"]
        # It computed with fewer bits, and the same.
        assert 1e-4 < row["error"] < 0.02


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_is_read_by_all_threads_or_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int
) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    machine = importlib.import_module("machine")
    ceilings, file = machine.build_ceilings(tmp_path), tmp_path / "weights"
    file.write_bytes(bytes(10_000_001))
    assert machine.file_gb_s(ceilings, threads, file) > 0.1
    for size in (0, 100):
        file.write_bytes(bytes(size))
        with pytest.raises(subprocess.CalledProcessError):
            machine.file_gb_s(ceilings, threads, file)
