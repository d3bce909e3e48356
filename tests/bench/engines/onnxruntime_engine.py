"""ONNX Runtime, CPU provider, as installed; only the number of threads is set."""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from .base import Arrays, Engine, Session


class _Session:
    def __init__(self, model: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        values = self.session.run(None, dict(inputs))
        return dict(zip(self.names, map(np.asarray, values), strict=True))

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        binding = self.session.io_binding()
        # The binding does not keep the arrays alive: the closure below does.
        held = [dict(inputs), self.run(inputs)]
        for name, value in held[0].items():
            binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        for name, value in held[1].items():
            binding.bind_output(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        run = self.session.run_with_iobinding

        def call(_: object = held) -> object:
            return run(binding)

        return call

    def working_bytes(self) -> int | None:
        return None


class _OnnxRuntime:
    def version(self) -> str:
        return onnxruntime.__version__

    def prepare(
        self,
        model: Path,
        dims: Mapping[str, tuple[int, int]],
        output: Path,
        calibration: Path | None,
    ) -> Path:
        return model

    def load(self, prepared: Path, threads: int) -> Session:
        return _Session(prepared, threads)


def engine(format: str) -> Engine:
    """ONNX Runtime computes in the formats that the model is written in."""
    assert format == "f32", f"ONNX Runtime takes no format, and {format} is one"
    return _OnnxRuntime()
