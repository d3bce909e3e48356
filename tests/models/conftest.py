"""Real models for tests: made once by ``make.py``, compiled once per session, judged by ORT."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tapeout

Arrays = dict[str, np.ndarray]

RTOL = 1e-3
ATOL_OF_LARGEST = 1e-4


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "models: compiles and runs real models (minutes)")


@dataclass(frozen=True, eq=False)
class ZooModel:
    """A made model, with ONNX Runtime as its judge."""

    name: str
    folder: Path
    dims: Mapping[str, tuple[int, int]]
    facts: Mapping[str, float]
    _sessions: list[onnxruntime.InferenceSession] = field(default_factory=list[Any])

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    def arrays(self, stem: str) -> Arrays:
        """Return the arrays that the recipe stored as ``stem.npz``."""
        with np.load(self.folder / f"{stem}.npz") as stored:
            return {name: stored[name] for name in stored.files}

    def reference(self, inputs: Arrays) -> Arrays:
        """Return ONNX Runtime's outputs."""
        if not self._sessions:
            providers = ["CPUExecutionProvider"]
            self._sessions.append(onnxruntime.InferenceSession(self.path, providers=providers))
        session = self._sessions[0]
        names = [output.name for output in session.get_outputs()]
        values = map(np.asarray, session.run(names, inputs))
        return dict(zip(names, values, strict=True))


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], ZooModel]:
    """Return a function from a model's name to the model."""

    @cache
    def get(name: str) -> ZooModel:
        script = Path(__file__).with_name("make.py")
        command = [sys.executable, str(script), "--json", name]
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        (facts,) = json.loads(made.stdout)
        dims = {dim: (lo, hi) for dim, (lo, hi) in facts["dims"].items()}
        return ZooModel(name, Path(facts["folder"]), dims, facts["facts"])

    return get


@pytest.fixture(scope="session")
def compiled(
    zoo: Callable[[str], ZooModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a function from a model's name to its artifact for this machine."""
    folder = tmp_path_factory.mktemp("artifacts")

    @cache
    def get(name: str) -> Path:
        model = zoo(name)
        artifact = folder / f"{name}.tapeout"
        tapeout.compile(model.path, target="cpu", dims=dict(model.dims), output=artifact)
        return artifact

    return get


@pytest.fixture(scope="session")
def assert_agrees() -> Callable[[Arrays, Arrays], None]:
    """Return the check that every output agrees within the project's tolerance."""

    def check(ours: Arrays, theirs: Arrays) -> None:
        assert ours.keys() == theirs.keys()
        for name, right in theirs.items():
            assert ours[name].dtype == right.dtype, name
            assert np.isfinite(right).all(), f"{name}: the reference itself is not finite"
            atol = ATOL_OF_LARGEST * float(np.abs(right).max())
            np.testing.assert_allclose(ours[name], right, rtol=RTOL, atol=atol, err_msg=name)

    return check
