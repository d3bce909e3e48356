"""Models compiled by the command and run with ``--emulate``: they give what their graphs mean."""

# torch is only partly annotated.
# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import tapeout
from tapeout.frontend import driver
from tapeout.frontend.cli import main
from tapeout.frontend.emulate import emulated
from tapeout.ir.evaluator import evaluate

Array = np.ndarray[Any, Any]
MAKE = Path(__file__).parents[3] / "models" / "make.py"
WIDTH, HEADS = 32, 2


class Layer(nn.Module):
    """A layer of an encoder, normed before its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.together, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        parts = self.together(self.first(x)).reshape(batch, length, 3, HEADS, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        read = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(read.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def check(folder: Path, model: Path, inputs: Mapping[str, Array], within: float, *options: str):
    """Compile and run a model by commands; each output is within a part of its largest number."""
    artifact = folder / "model.tapeout"
    command("compile", model, "--target", "gpu:sm_80", "-o", artifact, *options)
    given: list[str] = []
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)
        given += ["--input", f"{name}={folder / name}.npy"]
    command("run", artifact, "--emulate", "--output", folder / "outputs", *given)
    for name, want in evaluate(driver.import_any(model), dict(inputs)).items():
        have = np.load(folder / "outputs" / f"{name}.npy")
        assert have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=0, atol=within * float(np.abs(want).max()))


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with weights drawn at random, for texts of any length."""
    torch.manual_seed(5)
    model = nn.Sequential(Layer(), Layer()).eval()
    length = torch.export.Dim("S", min=2, max=64)
    example = torch.randn(2, 20, WIDTH)
    program = torch.export.export(model, (example,), dynamic_shapes=({1: length},))
    path = tmp_path_factory.mktemp("transformer") / "model.pt2"
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize(("options", "within"), [((), 1e-4), (("--quantize", "bf16,always"), 2e-2)])
def test_a_transformer_of_two_layers(
    transformer: Path, tmp_path: Path, options: tuple[str, ...], within: float
) -> None:
    entry = next(iter(driver.import_any(transformer).entries()))
    (name,) = entry.inputs.data
    x = np.random.default_rng(0).standard_normal((2, 37, WIDTH)).astype(np.float32)
    check(tmp_path, transformer, {name: x}, within, *options)


class Total(nn.Module):
    """Adds up what it is given."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)
        return self.total * 2


def test_states_are_kept_from_run_to_run(tmp_path: Path) -> None:
    x = np.arange(4, dtype=np.float32)
    path = tapeout.compile(
        Total(), "gpu:sm_80", args=(torch.zeros(4),), output=tmp_path / "model.tapeout"
    )
    with emulated(path) as program:
        session, other = program.session(), program.session()
        (name,) = (port.name for port in program.inputs)
        for runs in (1, 2, 3):
            (y,) = session.run({name: x}).values()
            np.testing.assert_array_equal(y, 2 * (1 + runs * x))
        (y,) = other.run({name: x}).values()
        np.testing.assert_array_equal(y, 2 * (1 + x))


@pytest.mark.models
def test_the_digits_classifier(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, str(MAKE), "--json", "digits"], check=True, stdout=subprocess.PIPE
    )
    folder = Path(json.loads(made.stdout)[0]["folder"])
    with np.load(folder / "test.npz") as stored:
        images = stored["images"][:5]
    check(tmp_path, folder / "model.onnx", {"image": images}, 1e-4)
