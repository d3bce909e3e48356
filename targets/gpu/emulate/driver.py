"""The functions of ``runtime/c/cuda/driver.h``, in Python: launches go to the PTX interpreter.

What the launcher does wrong, and what a kernel does, is kept as ``fault``; the launcher is told
that the launch failed, as a real driver would tell it.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from ctypes import CFUNCTYPE, c_char_p, c_int, c_int32, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.emulate.functions import Argument, Code, Function
from tapeout.targets.gpu.emulate.memory import DeviceMemory

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, INVALID_IMAGE, NOT_FOUND, LAUNCH_FAILED = (
    *(0, 1, 2, 200),
    *(500, 719),
)
NAMES = {
    SUCCESS: b"CUDA_SUCCESS",
    INVALID_VALUE: b"CUDA_ERROR_INVALID_VALUE",
    OUT_OF_MEMORY: b"CUDA_ERROR_OUT_OF_MEMORY",
    100: b"CUDA_ERROR_NO_DEVICE",
    INVALID_IMAGE: b"CUDA_ERROR_INVALID_IMAGE",
    NOT_FOUND: b"CUDA_ERROR_NOT_FOUND",
    LAUNCH_FAILED: b"CUDA_ERROR_LAUNCH_FAILED",
}
"""Results and their names in cuda.h."""

MAJOR, MINOR, MOST_SHARED = 75, 76, 97
"""Attributes of a device."""

SHARED_BYTES = 166_912
USUAL_SHARED = 49_152
"""Bytes of a program: the most of an A100, and what it may take without asking."""

ELF_MAGIC = b"\x7fELF"
ELF_HEADER_BYTES = 64

PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "init": (c_uint,),
    "version": (c_void_p,),
    "device": (c_void_p, c_int),
    "attribute": (c_void_p, c_int, c_int32),
    "retain": (c_void_p, c_int32),
    "release": (c_int32,),
    "use": (c_void_p,),
    "load": (c_void_p, c_void_p),
    "unload": (c_void_p,),
    "function": (c_void_p, c_void_p, c_char_p),
    "set": (c_void_p, c_int, c_int),
    "allocate": (c_void_p, c_size_t),
    "free": (c_uint64,),
    "to_device": (c_uint64, c_void_p, c_size_t, c_void_p),
    "to_host": (c_void_p, c_uint64, c_size_t, c_void_p),
    "on_device": (c_uint64, c_uint64, c_size_t, c_void_p),
    "stream": (c_void_p, c_uint),
    "end_stream": (c_void_p,),
    "wait": (c_void_p,),
    "launch": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "name_of": (c_int32, c_void_p),
}
"""The arguments of each function, in the order of the table ``cu_driver``."""


class Table(ctypes.Structure):
    """``cu_driver``."""

    _fields_ = tuple((name, c_void_p) for name in PROTOTYPES)
    emulator: Emulator
    """Whoever holds the table holds what its functions are."""


@dataclass(frozen=True)
class Launched:
    """One launch: buffers as their addresses, dimensions as numbers."""

    function: str
    programs: int
    arguments: tuple[int, ...]


class Emulator:
    """An A100 that interprets: ``code`` is what it may be asked to load.

    ``memory_bytes``: how much memory it has. ``capability`` and ``cuda_version`` are what it says
    it is, ``results`` what functions return in place of doing their work. ``launches`` records
    every launch.
    """

    def __init__(
        self,
        code: Code,
        *,
        memory_bytes: int | None = None,
        capability: int | None = None,
        cuda_version: int = 13_000,
        results: dict[str, int] | None = None,
    ) -> None:
        """Make the table."""
        self.code, self.cuda_version = code, cuda_version
        self.capability = code.architecture if capability is None else capability
        self.results = results or {}
        self.memory = DeviceMemory(memory_bytes)
        self.fault: CompileError | None = None
        self.launches: list[Launched] = []
        self._modules: dict[int, Function] = {}
        self._shared: dict[int, int] = {}
        self._names = {result: ctypes.create_string_buffer(name) for result, name in NAMES.items()}
        self._callbacks = [self._callback(name, types) for name, types in PROTOTYPES.items()]
        self.table = Table(*(ctypes.cast(each, c_void_p) for each in self._callbacks))
        self.table.emulator = self

    def _callback(self, name: str, types: tuple[Any, ...]) -> Any:
        work: Callable[..., int | None] = getattr(self, f"_{name}")

        def call(*arguments: Any) -> int:
            if name in self.results:
                return self.results[name]
            try:
                return work(*arguments) or SUCCESS
            except CompileError as error:
                self.fault = self.fault or error
            except BaseException as error:  # nothing may leave through C
                what = f"the emulator failed: {type(error).__name__}: {error}"
                self.fault = self.fault or CompileError("E0908", what, [("in", name)])
            return LAUNCH_FAILED

        return CFUNCTYPE(c_int32, *types)(call)

    # The device

    def _init(self, flags: int) -> None:
        pass

    def _version(self, version: int) -> None:
        _put(version, c_int32, self.cuda_version)

    def _device(self, device: int, number: int) -> None:
        _put(device, c_int32, number)

    def _attribute(self, value: int, attribute: int, device: int) -> None:
        known = {
            MAJOR: self.capability // 10,
            MINOR: self.capability % 10,
            MOST_SHARED: SHARED_BYTES,
        }
        _put(value, c_int32, known[attribute])

    def _retain(self, context: int, device: int) -> None:
        _put(context, c_uint64, 1)

    def _release(self, device: int) -> None:
        pass

    def _use(self, context: int) -> None:
        pass

    def _stream(self, stream: int, flags: int) -> None:
        _put(stream, c_uint64, 1)

    def _end_stream(self, stream: int) -> None:
        pass

    def _wait(self, stream: int) -> int:
        return LAUNCH_FAILED if self.fault is not None else SUCCESS

    def _name_of(self, result: int, name: int) -> int:
        if result not in self._names:
            return INVALID_VALUE
        _put(name, c_uint64, ctypes.addressof(self._names[result]))
        return SUCCESS

    # Code

    def _load(self, module: int, image: int) -> int:
        size = _elf_bytes(image)
        if size not in self.code.sizes:
            return INVALID_IMAGE
        digest = hashlib.sha256(ctypes.string_at(image, size)).hexdigest()
        if digest not in self.code.functions:
            return INVALID_IMAGE
        handle = len(self._modules) + 1
        self._modules[handle] = self.code.functions[digest]
        _put(module, c_uint64, handle)
        return SUCCESS

    def _unload(self, module: int) -> None:
        del self._modules[module]

    def _function(self, function: int, module: int, name: bytes) -> int:
        if self._modules[module].name != name.decode():
            return NOT_FOUND
        _put(function, c_uint64, module)
        return SUCCESS

    def _set(self, function: int, attribute: int, value: int) -> None:
        self._shared[function] = value

    # Memory

    def _allocate(self, pointer: int, size: int) -> int:
        if not size:
            return INVALID_VALUE
        address = self.memory.allocate(size)
        if address is None:
            return OUT_OF_MEMORY
        _put(pointer, c_uint64, address)
        return SUCCESS

    def _free(self, pointer: int) -> None:
        self.memory.free(pointer)

    def _to_device(self, to: int, source: int, size: int, stream: int) -> None:
        self.memory.write(to, _host(source, size), "a copy to the device", parts=True)

    def _to_host(self, to: int, source: int, size: int, stream: int) -> None:
        _host(to, size)[:] = self.memory.read(source, size, "a copy to the host", part=True)

    def _on_device(self, to: int, source: int, size: int, stream: int) -> None:
        where = "a copy on the device"
        self.memory.write(to, self.memory.read(source, size, where).copy(), where)

    # Launches

    def _launch(
        self, function: int, x: int, y: int, z: int, bx: int, by: int, bz: int,
        shared: int, stream: int, arguments: int, extra: int,
    ) -> int:  # fmt: skip
        its = self._modules[function]
        allowed = self._shared.get(function, USUAL_SHARED)
        block = (bx, by, bz) == (32 * its.warps, 1, 1)
        if (y, z) != (1, 1) or not block or shared != its.shared or shared > allowed:
            return INVALID_VALUE
        values = _values(its.arguments, arguments)
        self.launches.append(Launched(its.name, x, tuple(values)))
        sizes = {a.size: v for a, v in zip(its.arguments, values, strict=True) if a.size}
        if its.programs.evaluate(sizes) != x:
            raise _wrong(its.name, "programs", its.programs.evaluate(sizes), x)
        given = [
            value if argument.bytes is None else self._buffer(its.name, argument, value, sizes)
            for argument, value in zip(its.arguments, values, strict=True)
        ]
        _check_apart(its, values, sizes)
        its.launch.run((x,), given, warps=its.warps, shared=shared)
        return SUCCESS

    def _buffer(
        self, function: str, argument: Argument, address: int, sizes: Mapping[str, int]
    ) -> npt.NDArray[np.uint8]:
        """The memory of an argument, and no more. Errors: E0907, E0908."""
        assert argument.bytes is not None, "it is a buffer"
        size = argument.bytes.evaluate(sizes)
        if not size:
            return np.zeros(0, np.uint8)
        if address % 16:
            raise _wrong(function, f"the address of {argument.name}", "a multiple of 16", address)
        where = f"{argument.name} of {function}"
        found, offset = self.memory.find(address, size, where)
        if argument.reads and not (argument.scratch and argument.writes):
            self.memory.read(address, size, where)
        if argument.writes:
            found.write(offset, offset + size)
        return found.data[offset : offset + size]


def _check_apart(its: Function, values: Sequence[int], sizes: Mapping[str, int]) -> None:
    """Errors: E0908 where what is written shares bytes with a buffer that it does not begin as."""
    spans = [
        (argument, value, value + argument.bytes.evaluate(sizes))
        for argument, value in zip(its.arguments, values, strict=True)
        if argument.bytes is not None
    ]
    for (one, start, stop), (other, begin, end) in combinations(spans, 2):
        begun = other.name == one.begins or one.name == other.begins
        if (
            not (begun and start == begin)
            and start < end
            and begin < stop
            and (one.writes or other.writes)
        ):
            facts = [("function", its.name), ("buffers", f"{one.name}, {other.name}")]
            raise CompileError("E0908", "two buffers of a launch share memory", facts)


def _values(arguments: Sequence[Argument], pointers: int) -> list[int]:
    """What a list of pointers to arguments points to; Triton's two own are null."""
    addresses = (c_uint64 * (len(arguments) + 2)).from_address(pointers)
    for own in addresses[len(arguments) :]:
        if c_uint64.from_address(own).value:
            raise CompileError("E0907", "a function is given scratch that it has not asked for")
    kinds = [c_int32 if a.type == "i32" else ctypes.c_int64 for a in arguments]
    return [kind.from_address(at).value for kind, at in zip(kinds, addresses, strict=False)]


def _elf_bytes(image: int) -> int:
    """The size of an ELF file that ends in its headers; 0 for what is none."""
    head = ctypes.string_at(image, ELF_HEADER_BYTES)
    if head[:4] != ELF_MAGIC:
        return 0
    programs, sections = struct.unpack_from("<QQ", head, 32)
    program_size, programs_count, section_size, sections_count = struct.unpack_from("<4H", head, 54)
    return max(programs + program_size * programs_count, sections + section_size * sections_count)


def _host(address: int, size: int) -> npt.NDArray[np.uint8]:
    """The host's memory at an address."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _put(address: int, kind: Any, value: int) -> None:
    kind.from_address(address).value = value


def _wrong(function: str, what: str, expected: object, got: object) -> CompileError:
    facts = [("function", function), ("of", what), ("expected", expected), ("got", got)]
    return CompileError("E0907", "a function is launched with what does not fit it", facts)
