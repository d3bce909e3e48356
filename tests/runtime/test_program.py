"""Artifacts of hand-written models, loaded and run."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tapeout.runtime.dtypes import CODES, numpy_dtypes
from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import DTYPES
from tapeout.runtime.profile import evaluate
from tapeout.runtime.program import Program, load
from tapeout.runtime.tensors import address, dense

Pack = Callable[..., Path]

ONE = np.ones((1, 8), np.float32)


@pytest.fixture
def mlp(artifact: Pack):
    return load(artifact("mlp"))


@pytest.fixture
def scale(artifact: Pack):
    return load(artifact("scale"), threads=2)


@pytest.fixture
def positive(artifact: Pack):
    return load(artifact("positive"))


def pair(B: int, S: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(B * 1000 + S)
    return {name: rng.normal(size=(B, S, 4)).astype(np.float32) for name in "ab"}


def refusal(run: Callable[..., object], *args: Any) -> RunError:
    with pytest.raises(RunError) as caught:
        run(*args)
    return caught.value


@pytest.mark.parametrize("collecting", [True, False])
def test_loading_leaves_garbage_collection_as_it_was(artifact: Pack, collecting: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        load(artifact("mlp", "file")).close()
        with pytest.raises(RunError):
            load("missing.tapeout")
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("format", ["file", "dir"])
@pytest.mark.parametrize("verify", [True, False, "full"])
def test_fixed_model_agrees_with_numpy(
    artifact: Pack, mlp_reference: Callable[[Any], Any], format: str, verify: Any
) -> None:
    program = load(artifact("mlp", format), verify=verify)
    x = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    np.testing.assert_allclose(program.run({"x": x})["y"], mlp_reference(x), rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_symbolic_sizes_change_from_call_to_call(artifact: Pack, threads: int) -> None:
    program = load(artifact("scale"), threads=threads)
    rng = np.random.default_rng(threads)
    for _ in range(200):
        B, S = int(rng.integers(0, 7)), int(rng.integers(1, 200))
        inputs = pair(B, S)
        outputs = program.run(inputs)
        np.testing.assert_array_equal(outputs["out"], 2 * inputs["a"] + inputs["b"])
        np.testing.assert_array_equal(outputs["last"], np.arange(2 * S, dtype=np.float32))


def test_sizes_that_data_decides(positive: Program) -> None:
    kept: list[tuple[Any, Any]] = []
    for n in (0, 5, 1000, 3, 100_000):
        x = np.random.default_rng(n).integers(-5, 5, size=n)
        outputs = positive.run({"x": x})
        kept.append((x, outputs))
    for x, outputs in kept:  # a result stays as it was, whatever runs after it
        np.testing.assert_array_equal(outputs["index"], np.flatnonzero(x > 0))
        np.testing.assert_array_equal(outputs["value"], 10 * x[x > 0])


def test_outputs_are_new_arrays_every_time(mlp: Program) -> None:
    first = mlp.run({"x": ONE})["y"]
    before = first.copy()
    mlp.run({"x": 2 * ONE})
    np.testing.assert_array_equal(first, before)


class TestInputs:
    def test_may_be_strided_read_only_or_unaligned(
        self, mlp: Program, mlp_reference: Callable[[Any], Any]
    ) -> None:
        wide = np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
        strided = wide.T[:1]
        fixed = strided.copy()
        fixed.flags.writeable = False
        shifted = np.frombuffer(b"1" + strided.tobytes(), np.float32, offset=1).reshape(1, 8)
        assert not shifted.flags.aligned
        expected = mlp_reference(strided)
        for x in (strided, fixed, shifted):
            np.testing.assert_allclose(mlp.run({"x": x})["y"], expected, rtol=1e-5)

    def test_may_be_dlpack_objects(self, mlp: Program) -> None:
        class Foreign:
            def __dlpack__(self, **kwargs: Any):
                return ONE.__dlpack__(**kwargs)

            def __dlpack_device__(self):
                return ONE.__dlpack_device__()

        expected = mlp.run({"x": ONE})["y"]
        np.testing.assert_array_equal(mlp.run({"x": Foreign()})["y"], expected)

    def test_are_not_copied_when_dense(self) -> None:
        bits = np.ones(3, ml_dtypes.bfloat16)
        arrays: list[Any] = [ONE, np.array(3, np.float32), np.zeros((0, 3)), bits]
        for array in arrays:
            assert dense(array) is array
            assert address(array) == array.ctypes.data

    @pytest.mark.parametrize(
        ("inputs", "facts"),
        [
            ({}, {"missing": "x", "known": "x"}),
            ({"y": ONE}, {"missing": "x", "unknown": "y"}),
            ({"x": ONE, "y\n": ONE}, {"unknown": "y\n"}),
        ],
    )
    def test_names_must_be_known(self, mlp: Program, inputs: Any, facts: dict[str, str]) -> None:
        error = refusal(mlp.run, inputs)
        assert error.code == "E0510"
        assert facts.items() <= dict(error.facts).items()
        assert len(str(error).splitlines()) == 2 + len(error.facts)  # the newline is escaped

    @pytest.mark.parametrize("dtype", [np.float64, np.int32, np.dtype(">f4"), object])
    def test_element_types_must_agree(self, mlp: Program, dtype: Any) -> None:
        error = refusal(mlp.run, {"x": ONE.astype(dtype)})
        assert error.code == "E0511"
        assert dict(error.facts)["expected"] == np.float32

    @pytest.mark.parametrize("shape", [(8,), (1, 1, 8), (), (1,) * 12])
    def test_ranks_must_agree(self, mlp: Program, shape: tuple[int, ...]) -> None:
        error = refusal(mlp.run, {"x": np.zeros(shape, np.float32)})
        assert error.code == "E0512"
        assert error.facts == (("expected", "2"), ("got", str(len(shape))))

    def test_fixed_sizes_must_agree(self, mlp: Program) -> None:
        error = refusal(mlp.run, {"x": np.zeros((1, 9), np.float32)})
        assert error.code == "E0513"
        assert error.facts == (("axis", "1"), ("expected", "8"), ("got", "9"))

    def test_symbols_must_be_in_range(self, scale: Program) -> None:
        error = refusal(scale.run, pair(2, 0))
        assert error.code == "E0513"
        assert dict(error.facts)["expected"] == f"S is 1 to {1 << 50}"

    def test_equal_symbols_must_be_equal(self, scale: Program) -> None:
        error = refusal(scale.run, {"a": pair(2, 3)["a"], "b": pair(2, 4)["b"]})
        assert error.code == "E0514"
        assert error.facts == (("axis", "1"), ("expected", "S = 3"), ("got", "4"))

    def test_models_may_check_more(self, scale: Program, positive: Program) -> None:
        assert refusal(scale.run, pair(7, 3)).code == "E0514"
        error = refusal(positive.run, {"x": np.array([1, -999])})
        assert error.code == "E0517"
        assert error.facts == (("place", "1"),)

    def test_a_refused_call_leaves_the_program_usable(self, scale: Program) -> None:
        inputs = pair(2, 3)
        for bad in (pair(7, 3), pair(2, 0), {"a": inputs["a"], "b": pair(2, 4)["b"]}):
            refusal(scale.run, bad)
            np.testing.assert_array_equal(scale.run(inputs)["out"], 2 * inputs["a"] + inputs["b"])

    def test_sizes_beyond_memory_are_refused(self, scale: Program) -> None:
        """An empty input can have any size along its other axes."""
        empty = np.zeros((0, 1 << 50, 4), np.float32)
        assert scale.run({"a": empty[:, :5], "b": empty[:, :5]})["out"].shape == (0, 5, 4)
        assert refusal(scale.run, {"a": empty, "b": empty}).code == "E0516"


class TestBind:
    def test_reads_and_writes_in_place(self, mlp: Program) -> None:
        x = ONE.copy()
        y = np.zeros((1, 4), np.float32)
        call = mlp.bind({"x": x}, {"y": y})
        for factor in (1, 3, -2):
            x[:] = factor * ONE
            assert call()["y"] is y
            np.testing.assert_array_equal(y, mlp.run({"x": x})["y"])

    def test_makes_outputs_and_keeps_its_shapes(self, scale: Program) -> None:
        small, large = pair(2, 3), pair(4, 50)
        calls = [scale.bind(small), scale.bind(large)]
        for call, inputs in zip(calls * 3, [small, large] * 3, strict=True):
            np.testing.assert_array_equal(call()["out"], 2 * inputs["a"] + inputs["b"])

    def test_keeps_what_it_needs_alive(self, artifact: Pack) -> None:
        call = load(artifact("mlp")).bind({"x": ONE.copy()})
        gc.collect()
        expected = load(artifact("mlp")).run({"x": ONE})["y"]
        np.testing.assert_array_equal(call()["y"], expected)

    def test_refuses_what_it_cannot_use_in_place(self, mlp: Program, positive: Program) -> None:
        read_only = np.zeros((1, 4), np.float32)
        read_only.flags.writeable = False
        assert refusal(mlp.bind, {"x": np.ones((1, 16), "f4")[:, ::2]}).code == "E0515"
        assert refusal(mlp.bind, {"x": ONE}, {"y": read_only}).code == "E0515"
        assert refusal(mlp.bind, {"x": ONE}, {"z": ONE}).code == "E0510"
        assert refusal(mlp.bind, {"x": ONE}, {"y": np.zeros((1, 4))}).code == "E0511"
        assert refusal(positive.bind, {"x": np.arange(3)}).code == "E0515"

    def test_refuses_an_output_of_another_shape(self, mlp: Program) -> None:
        call = mlp.bind({"x": ONE}, {"y": np.zeros((1, 5), np.float32)})
        assert refusal(call).code == "E0515"


class TestThreads:
    def test_callers_take_turns_on_one_program(self, scale: Program) -> None:
        wrong: list[tuple[int, int]] = []

        def work(B: int) -> None:
            for S in range(1, 60):
                inputs = pair(B, S)
                if not np.array_equal(scale.run(inputs)["out"], 2 * inputs["a"] + inputs["b"]):
                    wrong.append((B, S))

        threads = [threading.Thread(target=work, args=(B,)) for B in range(1, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_programs_of_one_artifact_are_apart(self, artifact: Pack) -> None:
        path = artifact("scale")
        programs = [load(path, threads=2) for _ in range(3)]
        for S, program in enumerate(programs * 2, start=1):
            inputs = pair(2, S)
            assert np.array_equal(program.run(inputs)["out"], 2 * inputs["a"] + inputs["b"])

    def test_programs_loaded_at_once_keep_their_own_code(self, artifact: Pack) -> None:
        """Each is loaded through the number of a descriptor that the last one gave back."""
        paths = [artifact("scale"), artifact("mlp"), artifact("positive")] * 3
        programs = [load(path, threads=1) for path in paths]
        for program in programs:
            name = program.manifest.model
            inputs = {"scale": pair(2, 3), "mlp": {"x": ONE}, "positive": {"x": np.arange(4)}}
            assert set(program.run(inputs[name])) == {port.name for port in program.outputs}


class TestLife:
    def test_closed_programs_refuse(self, artifact: Pack) -> None:
        with load(artifact("mlp")) as program:
            call = program.bind({"x": ONE})
            call()
        program.close()
        assert refusal(program.run, {"x": ONE}).code == "E0518"
        assert refusal(call).code == "E0518"
        assert refusal(lambda: program.memory_bytes).code == "E0518"
        assert refusal(program.profile, {"x": ONE}).code == "E0518"

    def test_threads_and_descriptors_end_with_the_program(self, artifact: Pack) -> None:
        path = artifact("scale")
        load(path, threads=4).run(pair(5, 50))
        gc.collect()
        threads, files = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
        maps = Path("/proc/self/maps").read_text().count("tapeout")
        for _ in range(5):
            load(path, threads=4).run(pair(5, 50))
        gc.collect()
        until = time.monotonic() + 10  # a joined thread leaves the list a moment later
        while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < until:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/task")) == threads
        assert len(os.listdir("/proc/self/fd")) == files
        assert Path("/proc/self/maps").read_text().count("tapeout") == maps

    def test_memory_grows_to_the_largest_call_and_stays(self, scale: Program) -> None:
        scale.run(pair(2, 100))
        large = scale.memory_bytes
        assert large >= 2 * 100 * 4 * 4
        scale.run(pair(1, 1))
        assert scale.memory_bytes == large


def test_profile_counts_each_kernel(scale: Program) -> None:
    times = scale.profile(pair(3, 50), runs=4)
    assert [(t.name, t.calls) for t in times] == [("twice", 4), ("add", 4)]
    assert all(t.nanoseconds > 0 for t in times)
    assert [t.flops for t in times] == [600, 600]
    assert [t.bytes for t in times] == [4800, 7200]
    assert [t.calls for t in scale.profile(pair(3, 5))] == [1, 1]


@pytest.mark.parametrize(
    ("text", "value"), [("2*S + 1", 7), ("max(S, 5)//2 - -1 % 7", -4), (12, 12), ("min(S, 1)", 1)]
)
def test_sizes_are_evaluated(text: Any, value: int) -> None:
    assert evaluate(text, {"S": 3}) == value


@pytest.mark.parametrize(
    "text",
    [
        *("T", "S.real", "__import__('os')", "9**9**9", "1/2", "S//0", "(" * 5000, "1.5", "x y"),
        *("True", "S*" * 4999 + "S", "9" * 5000, "max(S, key=1)", "max()", "a\0b", "lambda: 1"),
    ],
)
def test_hostile_expressions_are_refused(text: Any) -> None:
    assert refusal(evaluate, text, {"S": 1 << 62}).code == "E0502"


class TestDtypes:
    def test_codes_are_those_of_the_header(self, runtime_c: Path) -> None:
        header = (runtime_c / "tapeout.h").read_text()
        body = header.split("typedef enum tapeout_dtype {")[1].split("}")[0]
        names = [line.split(",")[0].split("=")[0].strip() for line in body.splitlines()]
        named = [name.removeprefix("TAPEOUT_").lower() for name in names if name]
        assert tuple(named) == DTYPES
        assert CODES["f32"] == 1

    def test_foreign_types_may_be_given_as_bits(self) -> None:
        bf16 = np.dtype(ml_dtypes.bfloat16)
        assert numpy_dtypes("bf16") == (bf16, np.dtype(np.uint16))
        assert numpy_dtypes("f8e4m3fn")[1] == np.dtype(np.uint8)
        assert all(numpy_dtypes(name)[0].itemsize in (1, 2, 4, 8) for name in DTYPES)


def test_loading_imports_nothing_but_numpy_and_light_modules(artifact: Pack) -> None:
    """What a device has to carry, and what start-up may cost."""
    script = f"""
import sys, numpy
before = set(sys.modules)
import tapeout
tapeout.load({str(artifact("mlp"))!r}).run({{"x": numpy.ones((1, 8), numpy.float32)}})
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("tapeout.")} <= {
        f"tapeout.{name}"
        for name in [
            "runtime",
            *(f"runtime.{n}" for n in "archive cpu digest dtypes errors library".split()),
            *(f"runtime.{n}" for n in "manifest program tensors zipindex".split()),
        ]
    }
    compiler = {"ml_dtypes", "xdsl", "onnx"}
    heavy = {"zipfile", "tempfile", "dataclasses", "asyncio", "ssl", "hashlib", "numpy.typing"}
    assert not loaded & (compiler | heavy)
