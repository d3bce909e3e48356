"""OpenVINO's CPU plugin in latency mode, with f32 arithmetic or that of the format asked for."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Only `make bench` installs OpenVINO; linting does without.
# pyright: reportMissingImports=false

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import openvino

from .base import Arrays, Engine, Session

LATENCY = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": "1",
}


class _Session:
    def __init__(self, model: Path, threads: int, format: str) -> None:
        core = openvino.Core()
        # Always said: on machines with bf16 units the plugin would choose bf16 by itself.
        precision = {"INFERENCE_PRECISION_HINT": format}
        options = LATENCY | precision | {"INFERENCE_NUM_THREADS": str(threads)}
        self.request = core.compile_model(str(model), "CPU", options).create_infer_request()

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        results = self.request.infer(dict(inputs), share_inputs=True)
        return {port.get_any_name(): np.array(value) for port, value in results.items()}

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        for name, value in inputs.items():
            self.request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
        return self.request.infer

    def working_bytes(self) -> int | None:
        return None


class _OpenVino:
    def __init__(self, format: str) -> None:
        self.format = format

    def version(self) -> str:
        return openvino.__version__

    def prepare(
        self,
        model: Path,
        dims: Mapping[str, tuple[int, int]],
        output: Path,
        calibration: Path | None,
    ) -> Path:
        return model

    def load(self, prepared: Path, threads: int) -> Session:
        return _Session(prepared, threads, self.format)


def engine(format: str) -> Engine:
    """``f32`` or ``bf16`` for whatever the model has in f32."""
    return _OpenVino(format)
