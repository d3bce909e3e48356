"""ONNX's backend convention over this compiler, so that ONNX's own test suite plugs in.

``prepare`` compiles a model; ``run`` runs it. A model that needs some inputs at compile time (the
axes of a reduction given as an input; sequences) is compiled when the first call gives them, and
once for each of their values: all other inputs stay inputs of the compiled program. So it is with
an open size that is 0 in a call.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import onnx
from onnx.backend.base import Backend, BackendRep
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from tapeout.frontend.onnx.known import NotKnown
from tapeout.frontend.onnx.optout import REFUSALS, opt_out
from tapeout.frontend.onnx.specialise import (
    Array,
    Given,
    container_key,
    empty_axes,
    fix_empty,
    fix_inputs,
    open_containers,
    opened,
)
from tapeout.ir.errors import CompileError

Program: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Engine: TypeAlias = Callable[[onnx.ModelProto], Program]


def compiled(model: onnx.ModelProto) -> Program:
    """Compile for this machine's CPU and load what came out."""
    import tapeout

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tapeout"
        tapeout.compile(model, target="cpu", output=path)
        # What is mapped stays mapped when the folder goes.
        return tapeout.load(path).run


class Rep(BackendRep):
    """A prepared model; one compiled program for each set of values fixed at compile time."""

    def __init__(self, model: onnx.ModelProto, engine: Engine) -> None:
        """Compile now, unless what a call gives decides the form of the program."""
        super().__init__()
        held = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [i for i in model.graph.input if i.name not in held]
        self.outputs = list(model.graph.output)
        self._model = model
        self._engine = engine
        self._fixed: list[str] = []
        self._programs: dict[tuple[object, ...], Program] = {}
        if all(i.type.HasField("tensor_type") for i in self.inputs):
            self._prepare()

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs by position for inputs by position or by name."""
        given = self._given(inputs)
        flat = opened(given)
        program = self._program(given, flat)
        results = program({n: a for n, a in flat.items() if n not in self._fixed})
        return tuple(_assembled(info, results) for info in self.outputs)

    def _given(self, inputs: Any) -> dict[str, Given]:
        """A call's inputs by name, None for those left out."""
        names = [i.name for i in self.inputs]
        by_name: Mapping[str, Given] = (
            cast(Mapping[str, Given], inputs)
            if isinstance(inputs, Mapping)
            else dict(zip(names, cast(Sequence[Given], inputs), strict=False))
        )
        return {name: by_name.get(name) for name in names}

    def _prepare(self) -> None:
        try:
            self._programs[()] = self._engine(self._model)
        except NotKnown as error:
            self._fixed = list(error.inputs)
        except CompileError as error:
            _declare(error)
            raise

    def _program(self, given: Mapping[str, Given], flat: Mapping[str, Array]) -> Program:
        while True:
            fixed = {name: flat[name] for name in self._fixed}
            empty = empty_axes(self._model, flat)
            values = ((n, a.shape, a.tobytes()) for n, a in fixed.items())
            key = (*container_key(given), *sorted(empty), *values)
            if key in self._programs:
                return self._programs[key]
            try:
                model = open_containers(fix_empty(self._model, empty), given)
                model = fix_inputs(model, fixed)
                self._programs[key] = self._engine(model)
            except NotKnown as error:
                if not set(error.inputs) - set(self._fixed):
                    raise
                self._fixed = [*dict.fromkeys([*self._fixed, *error.inputs])]
            except CompileError as error:
                _declare(error)
                raise


class TapeoutBackend(Backend):
    """The compiler as an ONNX backend; ``engine`` makes programs from models."""

    engine: Engine = staticmethod(compiled)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU so far."""
        return device == "CPU"

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Rep:
        """Compile a model; raises ``BackendIsNotSupposedToImplementIt`` for a declared class."""
        reason = opt_out(model)
        if reason is not None:
            raise BackendIsNotSupposedToImplementIt(reason)
        return Rep(model, cls.engine)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Prepare and run once."""
        return cls.prepare(model, device).run(inputs)


prepare = TapeoutBackend.prepare
run_model = TapeoutBackend.run_model
supports_device = TapeoutBackend.supports_device


def _declare(error: CompileError) -> None:
    """Opt out when a refusal stands for a declared class."""
    if error.code in REFUSALS:
        raise BackendIsNotSupposedToImplementIt(REFUSALS[error.code]) from error


def _assembled(info: onnx.ValueInfoProto, results: Mapping[str, Array]) -> Array | Sequence[Array]:
    """One output of the model; the items of a sequence come as outputs of their own."""
    if info.name in results:
        return results[info.name]
    items: list[Array] = []
    while f"{info.name}[{len(items)}]" in results:
        items.append(results[f"{info.name}[{len(items)}]"])
    return items
