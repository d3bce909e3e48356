"""External data: weights in files beside the model, mapped, and never outside its folder.

A model file is untrusted, and so is every location in it. A location is walked one component at a
time from an open handle of the model's folder, and no component may be a link: a check of the
path's text alone can be raced, and was got round three times in ONNX's own loader (``..``,
symbolic links, hard links). A file with a second hard link is refused too, since a link into the
folder is the one way to reach a foreign file that the walk cannot see. The price: a model cache
that keeps its files as links into a blob store (as Hugging Face's does) has to be copied out
first. The model's own path is the user's word and may be a link.

The optional ``checksum`` entry is not compared: it is of the file as a whole, which would have to
be read, and whoever wrote the model file wrote the checksum too.

A mapped file must not be cut short while it is in use; the operating system ends a process that
reads past the new end.
"""

import mmap
import os
import stat
from pathlib import Path

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.view import Origin
from tapeout.ir.errors import CompileError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAX_DIGITS = 19


class ExternalFiles:
    """The data files of one model, each mapped once, read-only, for as long as a view lives."""

    def __init__(self, folder: Path | None) -> None:
        """Open nothing yet; without a ``folder`` every location is refused."""
        self._folder = folder
        self._mapped: dict[tuple[str, ...], memoryview] = {}

    def span(self, entries: dict[str, str], nbytes: int, owner: str) -> tuple[memoryview, Origin]:
        """Return the ``nbytes`` that ``entries`` (location, offset, length) name, with their place.

        ``owner`` is the tensor's name for messages. Refusals are E0308.
        """
        location = entries.get("location", "")
        parts = _components(location, owner)
        if self._folder is None:
            raise _refusal(location, owner, "a model in memory has no folder", _GIVE_FOLDER)
        offset = _number(entries, "offset", 0, location, owner)
        length = _number(entries, "length", nbytes, location, owner)
        if length != nbytes:
            raise _refusal(
                location, owner, f"its length is {length} where its shape needs {nbytes} bytes"
            )
        data = self._open(parts, location, owner)
        if offset + length > len(data):
            why = f"bytes {offset} to {offset + length} are outside the file's {len(data)}"
            raise _refusal(location, owner, why)
        origin = Origin(self._folder.joinpath(*parts), offset, length)
        return data[offset : offset + length], origin

    def _open(self, parts: tuple[str, ...], location: str, owner: str) -> memoryview:
        if parts not in self._mapped:
            assert self._folder is not None, "span refuses a model without a folder"
            try:
                self._mapped[parts] = _map(self._folder, parts, location, owner)
            except OSError as error:
                why = f"it cannot be opened without following a link: {error.strerror}"
                raise _refusal(location, owner, why, _COPY_FILE) from error
        return self._mapped[parts]


_COPY_FILE = "put the data file itself, not a link to it, into the model's folder"
_GIVE_FOLDER = "pass the model's path, or load_model(..., folder=...)"
_EXPORT_AGAIN = "export the model again with its external data"


def _refusal(location: str, owner: str, why: str, fix: str = _EXPORT_AGAIN) -> CompileError:
    return CompileError(
        "E0308",
        f"external data of tensor {quoted(owner)} is refused: {why}",
        (("location", quoted(location)),),
        fix,
    )


def _components(location: str, owner: str) -> tuple[str, ...]:
    parts = tuple(part for part in location.split("/") if part not in ("", "."))
    if not parts or "\0" in location:
        raise _refusal(location, owner, "its location names no file")
    if location.startswith("/") or "\\" in location or ".." in parts:
        raise _refusal(location, owner, "its location leaves the model's folder", _COPY_FILE)
    return parts


def _number(entries: dict[str, str], key: str, default: int, location: str, owner: str) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise _refusal(location, owner, f"its {key} is {quoted(text)}, not a byte count")
    return int(text)


def _map(folder: Path, parts: tuple[str, ...], location: str, owner: str) -> memoryview:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = inner
        file = os.open(parts[-1], _FILE, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        return _map_file(file, location, owner)
    finally:
        os.close(file)


def _map_file(file: int, location: str, owner: str) -> memoryview:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(location, owner, "it is not a regular file", _COPY_FILE)
    if status.st_nlink != 1:
        why = f"the file has {status.st_nlink} hard links, so it may be another file"
        raise _refusal(location, owner, why, _COPY_FILE)
    if status.st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(file, status.st_size, access=mmap.ACCESS_READ))
