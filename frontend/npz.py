"""``.npz`` files, read a slice of the first axis at a time: data of any size fits in memory."""

import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Member:
    """One array of an ``.npz`` file, not yet read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    def whole(self) -> Array:
        """All of it."""
        with reading(self.path), zipfile.ZipFile(self.path) as archive:
            with archive.open(f"{self.name}.npy") as file:
                return npy.read_array(file, allow_pickle=False)

    def slices(self, size: int) -> Iterator[Array]:
        """Slices of ``size`` along the first axis, in order; each is read when it is asked for."""
        if self.fortran:
            # The first axis is the innermost one: there is nothing to read by itself.
            array = self.whole()
            yield from (array[i : i + size] for i in range(0, len(array), size))
            return
        shape = (size, *self.shape[1:])
        with reading(self.path), zipfile.ZipFile(self.path) as archive:
            with archive.open(f"{self.name}.npy") as file:
                _header(file)
                for _ in range(self.shape[0] // size):
                    data = bytearray(file.read(prod(shape) * self.dtype.itemsize))
                    yield np.frombuffer(data, self.dtype).reshape(shape)


def members(path: Path) -> dict[str, Member]:
    """The arrays of a file by name, as their headers say; E0104 for no plain arrays."""
    found: dict[str, Member] = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            with archive.open(entry) as file:
                shape, fortran, dtype = _header(file)
            name = entry.removesuffix(".npy")
            found[name] = Member(path, name, shape, dtype, fortran and len(shape) > 1)
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format is for records")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, fortran, dtype


@contextmanager
def reading(path: Path) -> Generator[None]:
    """E0104 when a file cannot be read, or holds no plain arrays."""
    try:
        yield
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise CompileError(
            "E0104",
            "a file of samples cannot be read",
            [("file", path), ("why", error)],
            "give a file that numpy.savez wrote, without Python objects",
        ) from error
