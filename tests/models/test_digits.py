"""The classifiers trained on scikit-learn's digits keep every prediction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeout

pytestmark = pytest.mark.models


def test_the_cnn_keeps_its_accuracy_to_the_last_sample(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path]
) -> None:
    test = zoo("digits").arrays("test")
    with tapeout.load(compiled("digits"), threads=2) as program:
        at_once = program.run({"image": test["images"]})["logits"]
        ragged = [
            program.run({"image": part})["logits"]
            for part in np.split(test["images"], [1, 8, 100, 357])
        ]
    np.testing.assert_array_equal(at_once.argmax(1), test["logits"].argmax(1))
    np.testing.assert_array_equal(np.concatenate(ragged).argmax(1), test["logits"].argmax(1))


def test_the_mlp_keeps_its_accuracy_to_the_last_sample(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path]
) -> None:
    test = zoo("mlp").arrays("test")
    with tapeout.load(compiled("mlp"), threads=1) as program:
        found = [program.run({"image": image[None]})["logits"] for image in test["images"]]
    np.testing.assert_array_equal(np.concatenate(found).argmax(1), test["logits"].argmax(1))
