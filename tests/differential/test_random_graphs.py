"""Some random graphs in every run of the suite; ``fuzz.py`` itself runs for as long as asked."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.frontend import driver

Run = Callable[..., tuple[int, list[str]]]

DEVICES = tuple(dict.fromkeys((driver.targeted("cpu")[0].name, "generic")))


@pytest.fixture(scope="module")
def run(graphs: Any) -> Run:
    """``fuzz.run``."""
    return runpy.run_path(str(Path(__file__).parent / "fuzz.py"))["run"]


def test_compiled_graphs_agree_with_the_evaluator(run: Run):
    done, wrong = run(1, 25.0, DEVICES, most=20)
    assert not wrong
    assert done >= 1


def test_compiled_branches_and_loops_agree_with_the_evaluator(run: Run):
    done, wrong = run(1, 25.0, ("generic",), most=20, flow=True)
    assert not wrong
    assert done >= 1


def test_a_wrong_element_is_told(graphs: Any):
    want = np.arange(6, dtype=np.float32)
    assert not graphs.difference(want, want + 1e-5, 1e-4)
    assert "off by" in graphs.difference(want, want + 1e-2, 1e-4)
    assert "off by inf" in graphs.difference(want, np.full(6, np.nan, np.float32), 1.0)
    assert "5 for 3" in graphs.difference(np.array([1, 3]), np.array([1, 5]), 1.0)
    assert "for" in graphs.difference(want, want.reshape(2, 3), 1.0)


def test_every_kind_of_operator_is_drawn(graphs: Any):
    names = {m for seed in range(60) for m in graphs.draw(seed, graphs.MOVES).moves}
    assert names == {m.__name__ for m in graphs.MOVES}


def test_a_seed_draws_one_graph(graphs: Any):
    texts = {str(graphs.draw(7, (*graphs.MOVES, *graphs.FLOW)).module.ir) for _ in range(2)}
    assert len(texts) == 1
