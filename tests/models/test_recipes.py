"""The models themselves: made once, not degenerate, and true to what they were exported from."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MAKE = Path(__file__).with_name("make.py")

pytestmark = pytest.mark.models


def _make(*arguments: str, cache: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | ({"TAPEOUT_CACHE": str(cache)} if cache else {})
    return subprocess.run(
        [sys.executable, str(MAKE), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    result = _make("resnet51")
    assert result.returncode == 2
    assert "resnet51" in result.stderr
    assert "resnet50" in result.stderr


def test_a_model_is_made_once_and_again_to_the_same_bytes(tmp_path: Path) -> None:
    (first,) = json.loads(_make("mlp", "--json", cache=tmp_path).stdout)
    path = Path(first["folder"]) / "model.onnx"
    assert path.is_relative_to(tmp_path)
    content, written = path.read_bytes(), path.stat().st_mtime_ns

    _make("mlp", cache=tmp_path)
    assert path.stat().st_mtime_ns == written

    _make("mlp", "--force", cache=tmp_path)
    assert path.stat().st_mtime_ns > written
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["digits", "mlp"])
def test_the_trained_classifiers_have_learnt_the_digits(
    zoo: Callable[[str], Any], name: str
) -> None:
    # Chance is 0.1. Well-separated classes are what makes "every prediction is kept" worth a test.
    assert zoo(name).facts["accuracy"] > 0.9


def test_the_language_model_has_learnt_more_than_counts_of_bytes(
    zoo: Callable[[str], Any],
) -> None:
    facts = zoo("charlm").facts
    assert facts["bits_per_byte"] < 0.8 * facts["ngram_bits_per_byte"]
    assert facts["perplexity"] == pytest.approx(2 ** facts["bits_per_byte"])


def test_the_exported_language_model_predicts_like_the_original(
    zoo: Callable[[str], Any],
) -> None:
    stored = zoo("charlm").arrays("validation")
    windows, nll = stored["windows"][:16], stored["nll"][:16]
    logits = zoo("charlm").reference({"input_ids": windows[:, :-1]})["logits"].astype(np.float64)
    log_sum = np.log(np.exp(logits).sum(-1))
    chosen = np.take_along_axis(logits, windows[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(log_sum - chosen, nll, atol=1e-4)


@pytest.mark.parametrize("name", ["digits", "mlp", "minilm", "charlm"])
def test_calibration_data_fit_the_inputs_of_their_model(
    zoo: Callable[[str], Any], name: str
) -> None:
    samples, calibration = zoo(name).arrays("inputs"), zoo(name).arrays("calibration")
    assert calibration.keys() == samples.keys()
    for key, array in calibration.items():
        assert len(array) >= 32
        assert array.dtype == samples[key].dtype
        assert array.ndim == samples[key].ndim


def test_the_exported_encoder_gives_the_embeddings_of_the_original(
    zoo: Callable[[str], Any],
) -> None:
    model = zoo("minilm")
    batch = model.arrays("sentences")
    original = batch.pop("embeddings")
    exported = model.reference(batch)["sentence_embedding"]
    np.testing.assert_allclose(exported, original, atol=2e-6)


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2", "vit-base", "gpt2"])
def test_random_weights_give_outputs_that_spread(zoo: Callable[[str], Any], name: str) -> None:
    model = zoo(name)
    (logits,) = model.reference(model.arrays("inputs")).values()
    assert np.isfinite(logits).all()
    assert 0.05 < float(logits.std()) < 50
