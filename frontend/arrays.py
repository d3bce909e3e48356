"""Arrays of the command line: inputs from ``.npy`` files, outputs to them, inputs made up."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tapeout.frontend.sizes import choose
from tapeout.ir.errors import CompileError
from tapeout.runtime.dtypes import numpy_dtypes
from tapeout.runtime.manifest import Manifest, Port
from tapeout.runtime.profile import evaluate

Array = NDArray[Any]


def read_inputs(files: Iterable[tuple[str, str]]) -> dict[str, Array]:
    """Read ``NAME=FILE.npy`` pairs; E0104 for a file that holds no plain array."""
    return {name: _read(name, Path(file)) for name, file in files}


def _read(name: str, path: Path) -> Array:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CompileError(
            "E0104",
            f"input '{name}' cannot be read",
            [("file", path), ("why", error)],
            "give a file that numpy.save wrote, without Python objects",
        ) from error


def write_outputs(folder: Path, outputs: Mapping[str, Array]) -> list[Path]:
    """Write each output as ``NAME.npy``; characters that no file name should hold are escaped."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, array in outputs.items():
        path = folder / file_name(name)
        np.save(path, array, allow_pickle=False)
        written.append(path)
    return written


def file_name(output: str) -> str:
    """Return a plain file name for an output, whose own name comes from a model file."""
    plain = quote(output, safe=" []()+,@") or "%"
    return (f"%2E{plain[1:]}" if plain.startswith(".") else plain) + ".npy"


def summary(name: str, array: Array) -> str:
    """One line: name, element type, shape, and the range of the values."""
    head = f"{name}: {array.dtype}{list(array.shape)}"
    if array.size == 0:
        return f"{head}, empty"
    if array.dtype.kind not in "fiu":
        return f"{head}, first {array.flat[0]}"
    values = array.astype(np.float64)
    return f"{head}, min {values.min():.6g}, mean {values.mean():.6g}, max {values.max():.6g}"


def sizes(manifest: Manifest, given: Mapping[str, int]) -> dict[str, int]:
    """A value for every symbol of a program; see :func:`tapeout.frontend.sizes.choose`."""
    first = {str(port.shape[0]) for port in manifest.inputs if port.shape}
    return choose(manifest.symbols, first, given)


def made_up(manifest: Manifest, at: Mapping[str, int]) -> dict[str, Array]:
    """Inputs of the sizes ``at``: floats are drawn from a normal distribution, others 0 or 1."""
    random = np.random.default_rng(0)
    return {port.name: _made_up(port, at, random) for port in manifest.inputs}


def _made_up(port: Port, at: Mapping[str, int], random: np.random.Generator) -> Array:
    return drawn([evaluate(size, at) for size in port.shape], port.dtype, random)


def drawn(shape: Sequence[int], dtype: str, random: np.random.Generator) -> Array:
    """An input made up: floats from a normal distribution, others 0 or 1."""
    is_float = dtype.startswith(("f", "bf"))
    # Zero and one are indices, masks and token ids of nearly every model.
    values = random.standard_normal(shape) if is_float else random.integers(0, 2, shape)
    return np.asarray(values).astype(numpy_dtypes(dtype)[0])
