"""Hostile models at the door: each is refused with its code, or read without harm."""

import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tapeout.frontend.onnx.functions import inline_functions
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError

if TYPE_CHECKING:
    from hostile_models import Hostile

# A second is what a user would wait; ten tell a slow machine from a bomb, which takes for ever.
_SECONDS = 10.0


def test_names_of_models_are_unique(all_models: "list[Hostile]") -> None:
    names = [each.name for each in all_models]
    assert len(set(names)) == len(names)
    assert len(names) >= 40


def test_refused_with_its_code_and_facts(at_load: "Hostile", tmp_path: Path) -> None:
    path = at_load.build(tmp_path)
    start = time.process_time()
    with pytest.raises(CompileError) as refusal:
        load_model(path)
    assert time.process_time() - start < _SECONDS
    text = str(refusal.value)
    assert refusal.value.code in at_load.codes
    assert [part for part in at_load.says if part not in text] == []
    assert "fix:" in text
    _check_safe_to_print(text)


def _check_safe_to_print(text: str) -> None:
    """No control characters, no content of a file outside, and not a page of one name."""
    assert all(line.isprintable() for line in text.split("\n"))
    assert "top secret" not in text
    assert len(text) < 10_000


def test_read_without_harm(past_load: "Hostile", tmp_path: Path) -> None:
    """What is wrong with these models is an operator's business, so they load."""
    path = past_load.build(tmp_path)
    start = time.process_time()
    model = inline_functions(load_model(path))
    assert time.process_time() - start < _SECONDS
    assert model.graph.outputs


def test_bytes_in_memory_are_judged_like_a_file(at_load: "Hostile", tmp_path: Path) -> None:
    """Without a folder, external data is refused too, whatever it names."""
    path = at_load.build(tmp_path)
    if not path.is_file():
        return
    with pytest.raises(CompileError) as refusal:
        load_model(path.read_bytes())
    assert refusal.value.code in at_load.codes


def test_declared_sizes_allocate_nothing(all_models: "list[Hostile]", tmp_path: Path) -> None:
    """Models of a few bytes that declare exabytes cost a few kilobytes to refuse."""
    declare = [each for each in all_models if "exabytes" in each.name or "terabytes" in each.name]
    assert len(declare) == 2
    for index, each in enumerate(declare):
        folder = tmp_path / str(index)
        folder.mkdir()
        path = each.build(folder)
        tracemalloc.start()
        with pytest.raises(CompileError):
            load_model(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000
