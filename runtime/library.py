"""The C ABI (``c/tapeout.h``) through ctypes: load a library from bytes, open sessions."""

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int32, c_int64, c_uint64, c_void_p
from itertools import count
from typing import Any

from tapeout.runtime.archive import Place
from tapeout.runtime.errors import RunError

ABI = 2
MAX_RANK = 8


_loads = count(1)
_unload: Any = ctypes.CDLL(None).dlclose
_unload.argtypes = (ctypes.c_void_p,)


class Tensor(Structure):
    """``tapeout_tensor``."""

    _fields_ = (
        ("data", c_void_p),
        ("dims", c_int64 * MAX_RANK),
        ("rank", c_int32),
        ("dtype", c_int32),
    )


class Info(Structure):
    """The head of ``tapeout_info``: what is compared with the manifest."""

    _fields_ = (
        ("abi", c_int32),
        ("inputs", c_int32),
        ("states", c_int32),
        ("outputs", c_int32),
        ("symbols", c_int32),
        ("kernels", c_int32),
        ("tables", c_void_p * 4),
        ("weights_bytes", c_int64),
    )


class Counter(Structure):
    """``tapeout_counter``."""

    _fields_ = (("calls", c_uint64), ("nanoseconds", c_uint64))


class Library:
    """The functions of one loaded program, which is unloaded when nobody holds this any more."""

    def __init__(self, code: bytes, name: str) -> None:
        """Load the shared object ``code``; E0505 when the system does not take it."""
        try:
            dll = _load(code)
            self._dll, self._handle = dll, dll._handle
            self.run = dll.tapeout_run
            self.open = dll.tapeout_open
            self.close = dll.tapeout_close
            self.output_shapes = dll.tapeout_output_shapes
            self.error = dll.tapeout_error
            self.profile = dll.tapeout_profile
            self.counters = dll.tapeout_counters
            self.memory = dll.tapeout_memory
            self.checksum = dll.tapeout_checksum
            self.checksum_of = dll.tapeout_checksum_of
            describe = dll.tapeout_describe
        except (OSError, AttributeError) as error:
            facts = (("library", name), ("why", error))
            raise RunError("E0505", "the program's library does not load", facts) from None
        self.open.argtypes = (c_char_p, c_int64, c_int, POINTER(c_void_p))
        self.close.argtypes = self.memory.argtypes = self.checksum.argtypes = (c_void_p,)
        self.close.restype = self.profile.restype = None
        self.error.argtypes = self.counters.argtypes = (c_void_p,)
        self.error.restype = c_char_p
        self.profile.argtypes = (c_void_p, c_int)
        self.counters.restype = POINTER(Counter)
        self.memory.restype = c_int64
        self.checksum_of.argtypes = (c_char_p, c_int64)
        self.checksum.restype = self.checksum_of.restype = c_uint64
        describe.restype = POINTER(Info)
        self.info = Info.from_buffer_copy(describe().contents)
        if self.info.abi != ABI:
            facts = (("found", self.info.abi), ("known", ABI))
            raise RunError("E0502", "the program has another C interface", facts, "compile again")

    def __del__(self, unload: Any = _unload) -> None:
        """Drop the code; the sessions of its program are closed by now."""
        if hasattr(self, "_handle"):
            unload(self._handle)

    def open_session(self, weights: Place | None, threads: int) -> c_void_p:
        """Map the weights and open a session; E0506 or E0516 when that fails."""
        session = c_void_p()
        path = None if weights is None else _path_of(weights.file).encode()
        offset = 0 if weights is None else weights.offset
        if self.open(path, offset, threads, byref(session)):
            raise self.failure(None)
        return session

    def use_driver(self, driver: Structure) -> None:
        """Have sessions use these functions for the driver's; E0505 when it uses no driver."""
        try:
            use: Any = self._dll.tapeout_use_driver
        except AttributeError:
            raise RunError("E0505", "the program uses no driver that could be another") from None
        use.argtypes, use.restype = (c_void_p,), None
        use(byref(driver))

    def failure(self, session: c_void_p | None) -> RunError:
        """Return the last failure of a session, or of ``open``."""
        return RunError.from_text(self.error(session).decode("utf-8", "replace"))


def _load(code: bytes) -> ctypes.CDLL:
    """Load ``code`` without leaving a file behind: from memory where Linux has that."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("tapeout", os.MFD_CLOEXEC)
        try:
            _write_all(file, code)
            return ctypes.CDLL(_new_path_of(file))
        finally:
            os.close(file)
    import tempfile  # slow to import, and rarely needed

    file, path = tempfile.mkstemp(suffix=".so")
    try:
        _write_all(file, code)
        return ctypes.CDLL(path)
    finally:
        os.close(file)
        os.unlink(path)


def _new_path_of(file: int) -> str:
    """Return a path of the descriptor ``file`` that no library was loaded under before.

    The linker knows loaded libraries by path, and would give a new one the code of an old one
    whose descriptor had the same number. Detours that lead nowhere spell the paths apart.
    """
    detour = f"{next(_loads):b}".replace("1", "/.").replace("0", "/")
    return f"/proc/self/fd{detour}/{file}"


def _path_of(file: int) -> str:
    """Return a path that opens what the descriptor ``file`` has open."""
    return f"/proc/self/fd/{file}" if os.path.exists("/proc/self/fd") else f"/dev/fd/{file}"


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
