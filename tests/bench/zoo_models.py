"""The models to measure, as ``tests/models/make.py`` makes them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIX = ("resnet50", "mobilenetv2", "bert-base", "minilm", "vit-base", "gpt2")
"""The models that are compared by latency."""


@dataclass(frozen=True)
class Model:
    """A made model: where it is, the work of one call on its sample, its symbolic dimensions."""

    name: str
    folder: Path
    flop: int | None
    dims: dict[str, tuple[int, int]]
    calibration: Path | None = None
    """A folder of sample inputs, for static formats."""

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs.npz"


def models(names: tuple[str, ...]) -> list[Model]:
    """Make the named models where they are missing, and return them."""
    script = Path(__file__).parents[1] / "models" / "make.py"
    command = [sys.executable, str(script), "--json", *names]
    made = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if made.returncode != 0:
        sys.exit(made.returncode)  # make.py has said why
    facts: list[dict[str, Any]] = json.loads(made.stdout)
    return [
        Model(
            fact["name"],
            Path(fact["folder"]),
            fact["flop"],
            {name: (lo, hi) for name, (lo, hi) in fact["dims"].items()},
        )
        for fact in facts
    ]
