"""Other engines on the same model, as their own documentation says to call them."""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout.ir.errors import CompileError

Arrays = Mapping[str, NDArray[Any]]
Engine = Callable[[Arrays], dict[str, NDArray[Any]]]


def load_peer(name: str, model: Path, threads: int) -> Engine:
    """Load a model into an engine.

    E0106 for an unknown engine, E0603 for one that is not installed, E0604 when it refuses the
    model.
    """
    if name not in PEERS:
        known = ", ".join(PEERS)
        what = f"there is no engine '{name}' to compare with"
        raise CompileError("E0106", what, [("where", "--against"), ("known", known)])
    if find_spec(name) is None:
        what = f"the engine '{name}' is not installed"
        raise CompileError("E0603", what, [("where", "--against")], f"pip install {name}")
    try:
        return PEERS[name](model, threads)
    except Exception as error:  # each engine has its own kinds
        what = f"the engine '{name}' cannot load this model"
        raise CompileError("E0604", what, [("it says", error)], f"leave out {name}") from error


def _onnxruntime(model: Path, threads: int) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        values = session.run(None, dict(inputs))
        return dict(zip(names, map(np.asarray, values), strict=True))

    return run


def _openvino(model: Path, threads: int) -> Engine:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # On machines with bf16 units the plugin would otherwise compute in bf16.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(str(model), "CPU", options).create_infer_request()

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        results = request.infer(dict(inputs), share_inputs=True)
        return {port.get_any_name(): np.array(value) for port, value in results.items()}

    return run


PEERS: Mapping[str, Callable[[Path, int], Engine]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
