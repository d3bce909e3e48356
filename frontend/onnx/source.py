"""Where a model comes from: its bytes, mapped or in memory, and the folder it may refer to."""

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError

from tapeout.frontend.onnx.limits import Limits
from tapeout.ir.errors import CompileError

ModelSource = str | Path | bytes | onnx.ModelProto
"""What ``load_model`` takes: a path, an encoded model, or a model in memory."""


@dataclass(frozen=True)
class SourceBytes:
    """An encoded model. ``path`` is None for a model in memory; ``folder`` holds external data."""

    data: memoryview
    path: Path | None
    folder: Path | None


def read_source(source: ModelSource, folder: Path | None, limits: Limits) -> SourceBytes:
    """Return the encoded model, mapped when it is a file (E0301 when that cannot be)."""
    if isinstance(source, onnx.ModelProto):
        return _in_memory(_serialized(source), folder, limits)
    if isinstance(source, bytes):
        return _in_memory(source, folder, limits)
    path = Path(source)
    return SourceBytes(_mapped(path, limits), path, folder or path.parent)


def _serialized(model: onnx.ModelProto) -> bytes:
    try:
        return model.SerializeToString()
    except (EncodeError, ValueError, RecursionError) as error:
        raise CompileError(
            "E0301",
            "the model in memory cannot be encoded: it is over 2 GiB, or nested too deep",
            (("protobuf says", error),),
            "save it with external data and pass its path",
        ) from error


def _in_memory(data: bytes, folder: Path | None, limits: Limits) -> SourceBytes:
    _check_size(len(data), "the model in memory", limits)
    return SourceBytes(memoryview(data), None, folder)


def _mapped(path: Path, limits: Limits) -> memoryview:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(path, "it is not a regular file")
        _check_size(status.st_size, str(path), limits)
        return memoryview(mmap.mmap(handle, status.st_size, access=mmap.ACCESS_READ))
    finally:
        os.close(handle)


def _unreadable(path: Path, why: str) -> CompileError:
    return CompileError(
        "E0301", "the model file cannot be read", (("file", path), ("why", why)), "check the path"
    )


def _check_size(size: int, name: str, limits: Limits) -> None:
    if size == 0:
        raise CompileError(
            "E0301", "the model is empty", (("model", name),), "export or copy the model again"
        )
    if size > limits.file_bytes:
        raise CompileError(
            "E0304",
            "the model file is too large",
            (("model", name), ("bytes", size), ("allowed", limits.file_bytes)),
            "save the model with its weights as external data",
        )
