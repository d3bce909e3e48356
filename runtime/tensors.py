"""Arrays on their way into C tensors, and what is said when they do not fit."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tapeout.runtime.dtypes import numpy_dtypes
from tapeout.runtime.errors import RunError
from tapeout.runtime.library import MAX_RANK, Tensor
from tapeout.runtime.manifest import Port

Array = NDArray[Any]
Shape = tuple[int, ...]


def dense(value: Any) -> Array:
    """Return ``value`` as a dense, aligned array: itself whenever it is one."""
    array = cast(Array, value) if isinstance(value, np.ndarray) else _converted(value)
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def _converted(value: Any) -> Array:
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)


def set_shape(tensor: Tensor, shape: Shape) -> None:
    """Write ``shape`` into a C tensor; C refuses a rank that it has no room for."""
    tensor.rank = len(shape)
    for axis, size in enumerate(shape[:MAX_RANK]):
        tensor.dims[axis] = size


def wrong_names(kind: str, ports: tuple[Port, ...], given: Mapping[str, Any]) -> RunError:
    """E0510: which names are missing and which are not known."""
    known = [port.name for port in ports]
    missing = ", ".join(name for name in known if name not in given)
    unknown = ", ".join(str(name) for name in given if name not in known)
    facts = [("missing", missing), ("unknown", unknown), ("known", ", ".join(known))]
    return RunError(
        "E0510",
        f"the names of the {kind}s are not the program's",
        [(label, value) for label, value in facts if value],
        f"give every {kind} once, under its name",
    )


def wrong_dtype(kind: str, port: Port, array: Array) -> RunError:
    """E0511: the two types, and how to convert."""
    expected = numpy_dtypes(port.dtype)[0]
    return RunError(
        "E0511",
        f"{kind} '{port.name}' has another element type",
        (("expected", expected), ("got", array.dtype)),
        f"convert it: array.astype('{expected}')",
    )


def not_dense(kind: str, name: str) -> RunError:
    """E0515: bound buffers are used in place."""
    return RunError(
        "E0515",
        f"{kind} '{name}' cannot be bound",
        (("why", "it is not a dense, aligned, writable array"),),
        "use numpy.ascontiguousarray first",
    )
