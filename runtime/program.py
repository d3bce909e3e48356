"""Load a compiled program and run it on numpy arrays."""

import gc
import os
from _thread import allocate_lock  # `threading` takes longer to import than a model to open
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from tapeout.runtime import cpu
from tapeout.runtime.archive import Archive, changed
from tapeout.runtime.errors import RunError
from tapeout.runtime.library import Library, Tensor
from tapeout.runtime.manifest import WEIGHTS, Manifest, Port, State
from tapeout.runtime.tensors import (
    Array,
    Shape,
    Slot,
    dense,
    late_output,
    not_dense,
    wrong_dtype,
    wrong_names,
)

if TYPE_CHECKING:
    from ctypes import Structure

    from tapeout.runtime.decoder import Decoder
    from tapeout.runtime.decoding import DecodingSession
    from tapeout.runtime.profile import KernelTime
    from tapeout.runtime.session import Session

Arrays = dict[str, Array]

SHAPES_KEPT = 64
"""Input shapes whose output shapes are remembered."""


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    verify: bool | Literal["full"] = True,
    driver: "Structure | None" = None,
) -> "Program":
    """Load the artifact at ``path``, file or folder, for this machine; E05xx when it is refused.

    ``threads``: one per CPU that this process may use when None. ``verify``: compare every file
    with the manifest, the code by SHA-256 and the others by their checksum; ``"full"``: all by
    SHA-256; False: only sizes. Why: see runtime/README.md. ``driver``: functions in place of those
    of the GPU's driver (``cu_driver`` in ``c/cuda/driver.h``).
    """
    with _no_collection():
        archive = Archive(path)
        try:
            return Program(archive, threads or 0, verify, driver)
        finally:
            archive.close()


class Program:
    """A loaded program. Threads may share one: its calls take turns."""

    def __init__(
        self,
        archive: Archive,
        threads: int,
        verify: bool | Literal["full"],
        driver: "Structure | None" = None,
    ) -> None:
        """Use :func:`load`."""
        self.manifest: Manifest = archive.manifest
        self.device, self._library = _load_code(archive, verify)
        self._driver = driver  # the library keeps no hold of it
        if driver is not None:
            self._library.use_driver(driver)
        weights = archive.places.get(WEIGHTS)
        self._session = self._library.open_session(weights, threads)
        self._lock = allocate_lock()
        taken = (*self.inputs, *(state.port for state in self.manifest.states))
        self._in = (Tensor * len(taken))()
        self._out = (Tensor * len(self.outputs))()
        self._in_slots = [Slot(*pair) for pair in zip(taken, self._in, strict=True)]
        self._out_slots = [Slot(*pair) for pair in zip(self.outputs, self._out, strict=True)]
        self._shapes_known: dict[tuple[Shape, ...], tuple[Shape | None, ...]] = {}
        try:
            self._check_tables()
            self._first = {
                state.name: archive.read(state.file) for state in self.manifest.states if state.file
            }
            if verify and weights is not None:
                archive.compare_checksum(WEIGHTS, self._library.checksum(self._session))
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, element type and shape of each input."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, element type and shape of each output."""
        return self.manifest.outputs

    def run(self, inputs: Mapping[str, Any]) -> Arrays:
        """Run once; ``inputs`` maps each input's name to an array or a DLPack object.

        Nothing is copied but inputs that are not dense, and outputs whose size depends on data.
        Errors: E0510 to E0518.
        """
        if self.manifest.states:
            raise _has_states(self.manifest.states)
        return self._run(inputs)

    def session(self, **sizes: int) -> "Session":
        """Begin a session, which keeps the program's states from run to run.

        ``sizes``: of the symbols in the shapes of states. Any number of sessions share a program.
        Errors: E0519 for a program without states, or sizes that are missing or out of range.
        """
        from tapeout.runtime.session import Session

        return Session(self.run_on, self.manifest, sizes, self._first)

    def decoding(
        self, batch: int = 1, max_length: int | None = None, pages: int | None = None
    ) -> "DecodingSession":
        """Begin a session of a language model: ``batch`` sequences of up to ``max_length`` tokens.

        Without ``max_length`` 2048 tokens, or as many as the model is made for.
        ``pages`` of 64 tokens the cache has; enough for all sequences when None. Forks share them.
        Errors: E0519 for a program that is no language model.
        """
        from tapeout.runtime.decoding import DecodingSession

        decoder = self._decoder()
        if max_length is None:
            max_length = min(2048, decoder.context or 2048)
        return DecodingSession(decoder, batch, max_length, pages)

    @property
    def context(self) -> int | None:
        """How many tokens a language model is made for; None where there is no limit. E0519."""
        return self._decoder().context

    def _decoder(self) -> "Decoder":
        from tapeout.runtime.decoder import Decoder, is_decoder

        if not is_decoder(self.manifest):
            raise RunError("E0519", "the program is no language model", (), "program.session()")
        return Decoder(self.run_on, self.manifest)

    def run_on(self, inputs: Mapping[str, Any], states: Mapping[str, Array]) -> Arrays:
        """Run once on states that the caller keeps, which are changed in place."""
        return self._run({**inputs, **states})

    def _run(self, inputs: Mapping[str, Any]) -> Arrays:
        with self._lock:
            arrays = self._set_inputs(inputs)
            results = self._new_outputs(arrays)
            self._call()
            return self._named(results)

    def bind(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, Array] | None = None
    ) -> Callable[[], Arrays]:
        """Return a call that runs on the same buffers every time: the fastest way to run.

        Write new values into the input arrays in place, call, and read the output arrays, which
        are made here unless they are given. Inputs must be dense arrays.
        """
        with self._lock:
            arrays = self._set_inputs(inputs)
            for slot, array in zip(self._in_slots, arrays, strict=True):
                if array is not inputs[slot.name]:
                    raise not_dense("input", slot.name)
            if None in self._shapes(arrays):
                raise late_output(self.outputs)
            results = dict(outputs) if outputs else self._named(self._new_outputs(arrays))
            self._set_outputs(results)
            ins = type(self._in).from_buffer_copy(self._in)
            outs = type(self._out).from_buffer_copy(self._out)
        return self._bound(ins, outs, arrays, results)

    def profile(self, inputs: Mapping[str, Any], runs: int = 1) -> "tuple[KernelTime, ...]":
        """Run ``runs`` times and return each kernel's calls, time, and modelled work.

        Of a program with states, ``inputs`` holds them too.
        """
        from tapeout.runtime.profile import kernel_times

        with self._lock:
            arrays = self._set_inputs(inputs)
            library, session = self._library, self._session
            library.profile(session, 1)
            try:
                for _ in range(runs):
                    results = self._new_outputs(arrays)
                    self._call()
                    del results  # held until here: C wrote into it
            finally:
                library.profile(session, 0)
            symbols = _symbol_values(self.manifest, arrays)
            return kernel_times(self.manifest.kernels, library.counters(session), symbols)

    @property
    def memory_bytes(self) -> int:
        """Bytes of working memory held now; the weights are mapped and not counted."""
        with self._lock:
            self._check_open()
            return self._library.memory(self._session)

    def close(self) -> None:
        """Free threads, memory and mapping; a later call is E0518."""
        with self._lock:
            if self._session:
                self._library.close(self._session)
                self._session.value = None

    def __enter__(self) -> "Program":
        """Return the program itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the program."""
        self.close()

    def __del__(self) -> None:
        """Close a program that nobody holds any more."""
        # A program that was refused half-way has no session; one being collected has no callers.
        if getattr(self, "_session", None):
            self._library.close(self._session)

    def _check_tables(self) -> None:
        """The library and the manifest must tell of the same program; E0503."""
        manifest, info = self.manifest, self._library.info
        weights = manifest.files[WEIGHTS].bytes if WEIGHTS in manifest.files else 0
        taken = len(manifest.inputs) + len(manifest.states)
        told = (taken, len(manifest.states), len(manifest.outputs), len(manifest.kernels), weights)
        built = (info.inputs, info.states, info.outputs, info.kernels, info.weights_bytes)
        if told != built:
            raise changed("", "code", "inputs, states, outputs, kernels, weights", told, built)

    def _check_open(self) -> None:
        if not self._session:
            raise RunError("E0518", "the program is closed", fix="load it again")

    def _call(self) -> None:
        if self._library.run(self._session, self._in, self._out):
            raise self._library.failure(self._session)

    def _set_inputs(self, inputs: Mapping[str, Any]) -> list[Array]:
        self._check_open()
        slots = self._in_slots
        arrays: list[Array] = []
        try:
            for slot in slots:
                array = dense(inputs[slot.name])
                if array.dtype not in slot.dtypes:
                    raise wrong_dtype("input", slot.port, array)
                slot.point(array)
                arrays.append(array)
        except KeyError:
            raise wrong_names("input", self.inputs, inputs) from None
        if len(inputs) != len(slots):
            raise wrong_names("input", self.inputs, inputs)
        return arrays

    def _shapes(self, arrays: list[Array]) -> tuple[Shape | None, ...]:
        """The shape of every output, None where only a run can tell."""
        key = tuple([array.shape for array in arrays])
        shapes = self._shapes_known.get(key)
        if shapes is None:
            shapes = self._ask_shapes()
            if len(self._shapes_known) >= SHAPES_KEPT:
                self._shapes_known.clear()
            self._shapes_known[key] = shapes
        return shapes

    def _ask_shapes(self) -> tuple[Shape | None, ...]:
        if self._library.output_shapes(self._session, self._in, self._out):
            raise self._library.failure(self._session)
        shapes: list[Shape | None] = []
        for slot in self._out_slots:
            shape = slot.shape = slot.c_shape()
            shapes.append(None if -1 in shape else shape)
        return tuple(shapes)

    def _new_outputs(self, arrays: list[Array]) -> list[Array | None]:
        results: list[Array | None] = []
        for slot, shape in zip(self._out_slots, self._shapes(arrays), strict=True):
            if shape is None:
                slot.release()
                results.append(None)
            else:
                result = slot.empty(shape)
                slot.point(result)
                results.append(result)
        return results

    def _named(self, results: list[Array | None]) -> Arrays:
        """Name the outputs; those that the session holds are copied, for its next call."""
        return {
            slot.name: slot.copy() if result is None else result
            for slot, result in zip(self._out_slots, results, strict=True)
        }

    def _set_outputs(self, outputs: Mapping[str, Array]) -> None:
        if set(outputs) != {slot.name for slot in self._out_slots}:
            raise wrong_names("output", self.outputs, outputs)
        for slot in self._out_slots:
            array = outputs[slot.name]
            if array.dtype not in slot.dtypes:
                raise wrong_dtype("output", slot.port, array)
            if not array.flags.carray:
                raise not_dense("output", slot.name)
            slot.point(array)

    def _bound(
        self, ins: object, outs: object, arrays: list[Array], results: Arrays
    ) -> Callable[[], Arrays]:
        run, session, lock = self._library.run, self._session, self._lock

        def call(_keep: object = (self, arrays)) -> Arrays:
            with lock:
                if not session:
                    self._check_open()
                if run(session, ins, outs):
                    raise self._library.failure(session)
            return results

        return call


def _has_states(states: tuple[State, ...]) -> RunError:
    names = ", ".join(state.name for state in states[:8])
    return RunError(
        "E0519",
        "the program keeps states from run to run",
        (("states", names),),
        "begin a session: program.session().run(inputs)",
    )


@contextmanager
def _no_collection() -> Generator[None]:
    """Put off collections, which would go over all objects of numpy too: 1 to 2 ms."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _load_code(archive: Archive, verify: bool | str) -> tuple[str, Library]:
    """Load the form that fits this CPU, and verify every file but the weights."""
    manifest = archive.manifest
    form = cpu.choose(manifest.code, cpu.machine(), cpu.features())
    if form.file not in manifest.files:
        raise changed(archive.path, form.file, "present", True, False)
    if verify == "full":
        archive.verify(manifest.files)
    code = archive.read_verified(form.file) if verify else archive.read(form.file)
    library = Library(code, form.file)
    if verify and verify != "full":
        for name in [name for name in manifest.files if name not in (WEIGHTS, form.file)]:
            data = archive.read(name)
            archive.compare_checksum(name, library.checksum_of(data, len(data)))
    return form.device, library


def _symbol_values(manifest: Manifest, arrays: list[Array]) -> dict[str, int]:
    """What each symbol was in a run: the size of the axis of that name."""
    return {
        size: found
        for port, array in zip((*manifest.inputs, *manifest.states), arrays, strict=True)
        for size, found in zip(port.shape, array.shape, strict=True)
        if isinstance(size, str)
    }
