"""Arrays on their way into C tensors, and what is said when they do not fit."""

from collections.abc import Iterable, Mapping
from ctypes import addressof, c_char, memmove
from typing import Any, cast

import numpy as np

from tapeout.runtime.dtypes import CODES, numpy_dtypes
from tapeout.runtime.errors import RunError
from tapeout.runtime.library import MAX_RANK, Tensor
from tapeout.runtime.manifest import Port

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of any type and shape. (Importing numpy.typing for its name of this costs 1 ms.)"""
Shape = tuple[int, ...]


def dense(value: Any) -> Array:
    """Return ``value`` as a dense, aligned array: itself whenever it is one."""
    array = cast(Array, value) if isinstance(value, np.ndarray) else _converted(value)
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def _converted(value: Any) -> Array:
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)


def address(array: Array) -> int:
    """Return where the data of a dense array starts.

    numpy's own ways take a microsecond; the buffer protocol takes a fifth of that, but knows
    neither empty nor read-only arrays, nor numpy's foreign types.
    """
    try:
        return addressof(c_char.from_buffer(cast(Any, array)))
    except (TypeError, ValueError, BufferError):
        return array.__array_interface__["data"][0]


class Slot:
    """One input or output: its C tensor, and the shape that stands there."""

    __slots__ = ("dtypes", "name", "port", "shape", "tensor")

    def __init__(self, port: Port, tensor: Tensor) -> None:
        """Tie ``port`` to ``tensor``, which is part of a C array."""
        self.port, self.tensor, self.name = port, tensor, port.name
        self.dtypes = numpy_dtypes(port.dtype)
        self.shape: Shape | None = None
        tensor.dtype = CODES[port.dtype]

    def point(self, array: Array) -> None:
        """Let the C tensor be ``array``; C refuses a rank that it has no room for."""
        tensor, shape = self.tensor, array.shape
        tensor.data = address(array)
        if shape != self.shape:
            tensor.rank = len(shape)
            for axis, size in enumerate(shape[:MAX_RANK]):
                tensor.dims[axis] = size
            self.shape = shape

    def release(self) -> None:
        """Ask C for memory of its own, in a shape that only the run can tell."""
        self.tensor.data = None
        self.shape = None

    def c_shape(self) -> Shape:
        """Return the shape that C left in the tensor."""
        return tuple(self.tensor.dims[: self.tensor.rank])

    def empty(self, shape: Shape) -> Array:
        """Return a new array for a result; E0516 when there is no memory for it."""
        try:
            return np.empty(shape, self.dtypes[0])
        except (MemoryError, ValueError) as error:
            facts = (("shape", shape), ("why", error))
            raise RunError("E0516", f"there is no memory for output '{self.name}'", facts) from None

    def copy(self) -> Array:
        """Return a copy of the result that C keeps."""
        array = self.empty(self.c_shape())
        memmove(address(array), self.tensor.data, array.nbytes)
        return array


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


def late_output(outputs: Iterable[Port]) -> RunError:
    """E0515: bound buffers have one size for ever."""
    shapes = [(port.name, port.shape) for port in outputs]
    return RunError(
        "E0515", "outputs whose size depends on data cannot be bound", shapes, "use run"
    )
