"""Operators compiled for a device of the CPU and run there: one artifact holds all samples."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tapeout.ir.dtypes import dtype_of
from tapeout.ir.expr import Expr, as_expr, as_symbol, symbol
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run
from tapeout.runtime import artifact
from tapeout.runtime.cpu import features, machine
from tapeout.runtime.program import load
from tapeout.targets.cpu.device import devices
from tapeout.targets.cpu.target import built_on, compile_module

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]


def _samples() -> Any:
    """The samples of every operator, which the tests of the IR keep."""
    path = Path(__file__).parents[3] / "ir" / "conftest.py"
    found = importlib.util.spec_from_file_location("samples_of_the_ir", path)
    assert found is not None, "a path is enough to load a file"
    assert found.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(found)
    # Dataclasses look their module up by name.
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


SAMPLES: list[Any] = _samples().SAMPLES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run per sample for tests that take ``numbered``, a number and a sample."""
    if "numbered" in metafunc.fixturenames:
        ids = [f"{i}-{s}" for i, s in enumerate(SAMPLES)]
        metafunc.parametrize("numbered", list(enumerate(SAMPLES)), ids=ids)


def own_symbols(attrs: dict[str, Any], number: int) -> dict[str, Any]:
    """Attributes with every decided size under a name of this sample's own."""

    def renamed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(renamed, cast("tuple[Any, ...]", value)))
        found = as_symbol(value) if isinstance(value, Expr) else None
        return value if found is None else symbol(f"{found.name}{number}", found.lo, found.hi)

    return {name: renamed(value) for name, value in attrs.items()}


def together() -> tuple[Module, dict[str, Array]]:
    """One module that holds every sample, and its inputs."""
    arrays = {f"s{n}i{i}": a for n, s in enumerate(SAMPLES) for i, a in enumerate(s.arrays())}
    specs = [(n, Spec(tuple(map(as_expr, a.shape)), dtype_of(a))) for n, a in arrays.items()]
    entry = EntryOp("main", specs)
    rest, results, names = iter(entry.body.block.args), list[Any](), list[str]()
    for number, sample in enumerate(SAMPLES):
        given = [
            None
            if operand is None
            else tuple(next(rest) for _ in cast("tuple[Any, ...]", operand))
            if isinstance(operand, tuple)
            else next(rest)
            for operand in sample.operands
        ]
        op = sample.cls.make(*given, **own_symbols(sample.attrs, number))
        entry.body.block.add_op(op)
        results += op.results
        names += [f"s{number}o{i}" for i in range(len(op.results))]
    entry.body.block.add_op(ReturnOp(results))
    entry.properties["outputs"] = type(entry.outputs)(tuple(names))
    module = Module()
    module.ir.body.block.add_op(entry)
    return module, arrays


def runnable() -> list[str]:
    """Devices whose code this machine runs."""
    have, kind = features(), machine()
    return [
        d.name
        for d in devices().values()
        if d.machine in ("", kind) and have.issuperset(d.features)
    ]


@pytest.fixture(scope="session", params=runnable())
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """All results of all samples, from a program for one device."""
    module, arrays = together()
    run(module, [Fuse()])
    built = compile_module(module, [built_on(machine(), devices()[request.param])])
    path = tmp_path_factory.mktemp("artifacts") / f"{request.param}.tapeout"
    artifact.write(path, built.manifest, built.files)
    return load(path, threads=2).run(arrays)


@pytest.fixture
def close() -> Callable[[Array, Array, float], None]:
    """Equal type and shape; floats within a tolerance relative to the largest magnitude."""

    def check(have: Array, want: Array, tolerance: float) -> None:
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        a, b = want.astype(np.float64), have.astype(np.float64)
        if want.dtype.kind in "biu":
            tolerance = 0
        top = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * max(top, 1e-3))

    return check
