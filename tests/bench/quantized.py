"""Models for the peers in 8 bits, made by ONNX Runtime's own tools, and samples to calibrate with.

They are kept in ``$TAPEOUT_CACHE/bench`` beside the environments of ``installs.py``, each under a
hash of what it was made of.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from installs import made
from zoo_models import Model

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader

SAMPLES = 8
"""Images that scales are taken from."""


def calibrated(model: Model) -> Model:
    """Return the same model with a folder of images like its own input.

    They are mirrored, moved and of other contrast, drawn with a fixed seed: the same each time.
    """

    def fill(folder: Path) -> None:
        with np.load(model.inputs) as arrays:
            ((name, image),) = arrays.items()
        for i, sample in enumerate(_variations(image)):
            np.savez(folder / f"{i}.npz", allow_pickle=False, **{name: sample})

    return replace(model, calibration=_made("calibration", model, fill))


def _variations(image: np.ndarray) -> Iterator[np.ndarray]:
    """Images ``[1, C, H, W]``."""
    draw = np.random.default_rng(8)
    for _ in range(SAMPLES):
        moved = np.roll(image, tuple(draw.integers(0, image.shape[2:])), axis=(2, 3))
        turned = moved[..., :: draw.choice([-1, 1])]
        yield np.ascontiguousarray(turned * draw.uniform(0.7, 1.1), dtype=np.float32)


def dynamic(model: Model, *, per_channel: bool) -> Model:
    """Return the model with ONNX Runtime's dynamic quantisation: one activation scale per tensor.

    Weights are signed bytes, with a scale per tensor or per channel.
    """

    def fill(folder: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        file = str(folder / "model.onnx")
        with _prepared(model) as prepared:
            quantize_dynamic(prepared, file, per_channel=per_channel, weight_type=QuantType.QInt8)
        shutil.copy(model.inputs, folder)

    how = "per-channel" if per_channel else "per-tensor"
    return _as(f"dynamic-{how}", model, fill)


def static(model: Model) -> Model:
    """Return the model with QDQ pairs: bytes for activations, signed bytes per channel for weights.

    Scales are from the extremes over the same images as ours.
    """
    samples = model.calibration
    assert samples is not None, "see calibrated()"

    def fill(folder: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        with _prepared(model) as prepared:
            quantize_static(
                prepared,
                str(folder / "model.onnx"),
                _reader(samples),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=False,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        shutil.copy(model.inputs, folder)

    return _as("qdq", model, fill)


@contextmanager
def _prepared(model: Model) -> Generator[str]:
    """A copy as ONNX Runtime asks for it: optimised, with all shapes written down."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        whole, prepared = (str(Path(scratch) / f"{name}.onnx") for name in ("whole", "prepared"))
        # The tool cannot follow weights that stand in a file of their own; and it transposes some,
        # after which the shapes that the exporter noted for them are wrong.
        loaded = onnx.load(str(model.path))
        loaded.graph.ClearField("value_info")
        onnx.save(loaded, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        yield prepared


def _reader(folder: Path) -> "CalibrationDataReader":
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.files = iter(sorted(folder.glob("*.npz")))

        def get_next(self) -> Any:
            file = next(self.files, None)
            return None if file is None else dict(np.load(file))

    return Reader()


def _as(what: str, model: Model, fill: Callable[[Path], None]) -> Model:
    folder = _made(what, model, fill)
    return replace(model, name=f"{model.name}-{what}", folder=folder, calibration=None)


def _made(what: str, model: Model, fill: Callable[[Path], None]) -> Path:
    made_of = [model.folder.name, version("onnxruntime"), Path(__file__).read_text()]
    return made(f"{model.name}-{what}", made_of, fill)
