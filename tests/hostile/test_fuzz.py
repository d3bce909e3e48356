"""A few hundred mutants in every run of the suite; ``fuzz.py`` itself runs for as long as asked."""

import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path


def test_mutants_are_read_or_refused_with_a_code(tmp_path: Path) -> None:
    run: Callable[..., Counter[str]] = runpy.run_path(str(Path(__file__).parent / "fuzz.py"))["run"]
    outcomes = run(2026, 60.0, tmp_path, tmp_path / "mutant.onnx", most=600)
    assert outcomes.total() == 600
    # Mutants that all fail alike would test one line: most codes and some successes must occur.
    assert outcomes["ok"] > 20
    assert len(outcomes) >= 7
