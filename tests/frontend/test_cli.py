"""The command line: what it writes, what it refuses, and with which exit status."""

# onnx is only partly annotated.
# pyright: reportUnknownMemberType=false

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import tapeout
from tapeout.frontend.cli import main

Run = Callable[..., Result]
ROWS = np.arange(6 * 4, dtype=np.float32).reshape(6, 4) / 8 - 1


def save(path: Path, nodes: list[onnx.NodeProto], output: str = "y") -> Path:
    """A model of ``x: f32[N, 6]``, with the weight ``w: f32[6, 4]``."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(ROWS, "w")],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


@pytest.fixture
def run() -> Run:
    """Return a call of the command line."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return save(tmp_path / "small.onnx", nodes)


@pytest.fixture
def unsupported(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Frob", ["x"], ["h"], name="first", domain="acme"),
        helper.make_node("Frob", ["h"], ["i"], name="second", domain="acme"),
        helper.make_node("Munge", ["i"], ["y"], name="third", domain="acme"),
    ]
    path = save(tmp_path / "unsupported.onnx", nodes)
    proto = onnx.load(path)
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    onnx.save(proto, path)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, np.linspace(-1, 1, 18, dtype=np.float32).reshape(3, 6))
    return path


def expected(rows: Path) -> np.ndarray:
    return np.maximum(np.load(rows) @ ROWS, 0)


def test_compile_and_run_write_what_numpy_computes(
    run: Run, model: Path, rows: Path, tmp_path: Path
) -> None:
    artifact, folder = tmp_path / "m.tapeout", tmp_path / "out"
    assert run("compile", model, "-o", artifact).output == f"{artifact}\n"
    done = run("run", artifact, "--input", f"x={rows}", "--output", folder)
    assert (done.exit_code, done.output) == (0, f"{folder / 'y.npy'}\n")
    np.testing.assert_allclose(np.load(folder / "y.npy"), expected(rows), rtol=1e-6, atol=1e-6)


def test_run_tells_of_each_output_when_none_is_written(
    run: Run, model: Path, rows: Path, tmp_path: Path
) -> None:
    run("compile", model, "-o", tmp_path / "m.tapeout")
    told = run("run", tmp_path / "m.tapeout", "--input", f"x={rows}").output
    assert told.startswith("y: float32[3, 4], min 0, ")


def test_output_files_stay_in_their_folder(run: Run, rows: Path, tmp_path: Path) -> None:
    model = save(
        tmp_path / "named.onnx", [helper.make_node("Relu", ["x"], ["../../evil"])], "../../evil"
    )
    run("compile", model, "-o", tmp_path / "m.tapeout")
    folder = tmp_path / "a" / "b" / "out"
    done = run("run", tmp_path / "m.tapeout", "--input", f"x={rows}", "--output", folder)
    assert done.exit_code == 0
    assert [p.name for p in tmp_path.rglob("*evil*")] == ["%2E.%2F..%2Fevil.npy"]
    assert [p.parent for p in tmp_path.rglob("*evil*")] == [folder]


def test_artifact_takes_the_models_name_in_the_current_folder(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("compile", model).output == "small.tapeout\n"
    assert run("compile", model, "--format", "dir").output == "small\n"
    assert (tmp_path / "here" / "small" / "manifest.json").exists()


def test_one_artifact_holds_several_devices_best_first(
    run: Run, model: Path, rows: Path, tmp_path: Path
) -> None:
    both, plain = tmp_path / "both.tapeout", tmp_path / "plain.tapeout"
    assert run("compile", model, "--target", "cpu:generic,neon", "-o", both).exit_code == 0
    assert run("compile", model, "--target", "cpu:generic", "-o", plain).exit_code == 0
    inputs = {"x": np.load(rows)}
    with tapeout.load(both) as program, tapeout.load(plain) as alone:
        assert {code.device for code in program.manifest.code} == {"generic", "neon"}
        np.testing.assert_array_equal(program.run(inputs)["y"], alone.run(inputs)["y"])


def test_compiling_twice_gives_the_same_bytes(run: Run, model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run("compile", model, "-o", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_given_range_is_the_artifacts(run: Run, model: Path, tmp_path: Path) -> None:
    run("compile", model, "--dim", "N=2..8", "-o", tmp_path / "m.tapeout")
    with tapeout.load(tmp_path / "m.tapeout") as program:
        assert [tuple(s) for s in program.manifest.symbols] == [("N", 2, 8)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compile", "MODEL", "--target", "cpuu"], "E0101"),
        (["compile", "MODEL", "--sparsify", "4x1"], "E0111"),
        (["compile", "MODEL", "--target", "cpu:avx3"], "E0101"),
        (["compile", "MODEL", "--dim", "M=4"], "E0103"),
        (["compile", "MODEL", "--dim", "N=8..2"], "E0103"),
        (["compile", "MODEL", "--print-after", "nothing"], "E0101"),
        (["explain", "MODEL", "--at", "Q=4"], "E0103"),
        (["explain", "MODEL", "--dim", "N=2..8", "--at", "N=9"], "E0103"),
        (["opt", "MODEL", "-p", "no-such-pass"], "E0101"),
        (["compile", "MODEL", "--no-such-option"], "No such option"),
        (["compile", "MODEL", "--dim", "N=x"], "NAME=LO..HI"),
        (["compile", "MODEL", "--dim", "N=2", "--dim", "N=3"], "given twice"),
        (["compile"], "Missing argument"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_is_status_2(run: Run, model: Path, arguments: list[str], code: str) -> None:
    done = run(*[str(model) if a == "MODEL" else a for a in arguments])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert code in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compile", "missing.onnx"], "E0301"),
        (["compile", "model.pt2"], "E0301"),
        (["compile", "MODEL", "--quantize", "int8"], "E0705"),
        (["compile", "MODEL", "--sparsify", "2:4"], "E0705"),
        (["compile", "UNSUPPORTED"], "E0401"),
        (["explain", "UNSUPPORTED"], "E0401"),
        (["opt", "missing.mlir", "-p", "fold"], "E0301"),
        (["opt", "MODEL", "-p", "fold"], "E0301"),
        (["run", "MODEL"], "E0501"),
        (["run", "missing.tapeout"], "E0501"),
        (["bench", "missing.tapeout"], "E0501"),
    ],
)
def test_a_refused_input_is_status_1_with_its_code(
    run: Run, model: Path, unsupported: Path, arguments: list[str], code: str
) -> None:
    paths = {"MODEL": model, "UNSUPPORTED": unsupported}
    done = run(*[paths.get(a, a) for a in arguments])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert f"error[{code}]" in done.stderr


def test_explain_lists_everything_unsupported_with_its_nodes(run: Run, unsupported: Path) -> None:
    told = run("explain", unsupported).stderr
    assert told.count("error[E0401]") == 2
    for word in ("Frob", "Munge", "first", "second", "third", "fix:"):
        assert word in told


@pytest.mark.parametrize("command", ["explain", "compile"])
def test_an_operator_without_strategy_is_told_with_its_nodes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from tapeout.ir.ops.linalg import DetOp
    from tapeout.passes.tile.strategies import STRATEGIES

    monkeypatch.delitem(dict_of(STRATEGIES), DetOp)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Det", ["h"], ["a"], name="first"),
        helper.make_node("Neg", ["h"], ["i"]),
        helper.make_node("Det", ["i"], ["b"], name="second"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    done = run(command, save(tmp_path / "det.onnx", nodes))
    assert done.exit_code == 1
    assert "error[E0403]: no strategy lowers nn.det" in done.stderr
    assert "nodes: node 'first' (Det), node 'second' (Det)" in done.stderr


def dict_of(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    assert isinstance(mapping, dict)
    return mapping


def test_explain_says_what_sizes_have_to_fit(run: Run, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("Add", ["x", "t"], ["y"]),
    ]
    told = run("explain", save(tmp_path / "sum.onnx", nodes)).stdout
    assert "needs    N == 4, for add" in told


def test_explain_counts_the_work_at_the_sizes_asked_for(run: Run, model: Path) -> None:
    told = run("explain", model, "--at", "N=1000", "--gflops", 52, "--gb-per-s", 1e6).stdout
    # 1000 rows of 6x4 multiply-adds, then 4 comparisons each.
    for row in (["matmul", "1", "48 kflop"], ["map", "1", "4 kflop"], ["all", "2", "52 kflop"]):
        assert any(all(word in line for word in row) for line in told.splitlines()), row
    kernel = next(line for line in told.splitlines() if "k0_matmul" in line)
    assert [word in kernel for word in ("52 kflop", "1 µs", "100%", "compute")] == [True] * 4
    assert "time     1 µs at least (modelled" in told
    assert "52 GFLOP/s, 1e+06 GB/s (as given)" in told
    assert "size     N: 1 to no limit" in told


def test_explain_says_which_ceiling_of_the_device_limits_a_kernel(run: Run, model: Path) -> None:
    told = run("explain", model, "--target", "cpu:neon", "--at", "N=1000").stdout
    kernel = next(line for line in told.splitlines() if "k0_matmul" in line)
    # 1000 rows of 6 floats in and 4 out, and 96 bytes of weights, at 20.9 GB/s.
    assert "1.92 µs" in kernel
    assert "memory" in kernel
    assert "20.9 GB/s (cpu:neon" in told


def test_every_figure_of_a_device_has_a_source() -> None:
    from tapeout.targets.cpu.device import devices

    for device in devices().values():
        assert {"caches", "tile", "ceilings"} <= device.sources.keys()
        assert device.f32_gflop_per_s_per_core > 0
        assert device.memory_gb_per_s_per_core > 0


def test_a_missing_compiler_is_named_before_the_work(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEOUT_CC", "no-such-cc")
    for command in ("compile", "explain"):
        done = run(command, model)
        assert done.exit_code == 1
        assert "error[E0601]" in done.stderr
        assert "no-such-cc" in done.stderr


def test_an_input_that_is_no_array_is_refused_without_unpickling(
    run: Run, model: Path, tmp_path: Path
) -> None:
    run("compile", model, "-o", tmp_path / "m.tapeout")
    evil = tmp_path / "evil.npy"
    np.save(evil, np.array([print], dtype=object), allow_pickle=True)
    done = run("run", tmp_path / "m.tapeout", "--input", f"x={evil}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error[E0104]" in done.stderr


def test_inputs_missing_or_misshapen_are_refused(
    run: Run, model: Path, rows: Path, tmp_path: Path
) -> None:
    artifact = tmp_path / "m.tapeout"
    run("compile", model, "--dim", "N=1..2", "-o", artifact)
    assert "error[E0510]" in run("run", artifact).stderr
    assert "error[E0513]" in run("run", artifact, "--input", f"x={rows}").stderr


def test_stopping_after_a_pass_prints_text_that_opt_takes(
    run: Run, model: Path, tmp_path: Path
) -> None:
    stopped = run("compile", model, "--stop-after", "canonicalise").stdout
    text = tmp_path / "stopped.mlir"
    text.write_text(stopped)
    assert '"nn.matmul"' in stopped
    assert run("opt", text, "-p", "canonicalise").stdout == stopped
    assert run("opt", text, "-p", "layout,fuse", "-o", tmp_path / "fused.mlir").stdout == ""
    assert '"nn.kernel"' in (tmp_path / "fused.mlir").read_text()


def test_opt_reads_standard_input(model: Path) -> None:
    runner = CliRunner()
    text = runner.invoke(main, ["compile", str(model), "--stop-after", "fold"]).stdout
    done = runner.invoke(main, ["opt", "-", "-p", "drop-dead", "--verify-each"], input=text)
    assert (done.exit_code, done.stdout) == (0, text)


def test_dump_holds_a_file_for_every_pass(run: Run, model: Path, tmp_path: Path) -> None:
    from tapeout.passes.pipeline import passes

    run("compile", model, "--dump", tmp_path / "dump", "-o", tmp_path / "m.tapeout")
    names = sorted(path.name for path in (tmp_path / "dump").glob("*.mlir"))
    assert names == [f"{i:02}-{each.name}.mlir" for i, each in enumerate(passes())]


def test_bench_measures_a_model_against_another_engine(run: Run, model: Path) -> None:
    told = run(
        *("bench", model, "--at", "N=3", "--against", "onnxruntime"),
        *("--rounds", 2, "--threads", 1, "--profile", "--json"),
    ).stdout
    result = json.loads(told)
    assert result["at"] == {"N": 3}
    assert set(result["timings"]) == {"tapeout", "onnxruntime"}
    assert 0 < result["timings"]["tapeout"]["least"] <= result["timings"]["tapeout"]["median"]
    assert result["errors"]["onnxruntime"] < 1e-6
    assert [kernel["flops"] for kernel in result["kernels"]] == [3 * (2 * 6 * 4 + 4)]


def test_bench_measures_an_artifact_on_given_inputs(
    run: Run, model: Path, rows: Path, tmp_path: Path
) -> None:
    run("compile", model, "-o", tmp_path / "m.tapeout")
    done = run("bench", tmp_path / "m.tapeout", "--input", f"x={rows}", "--rounds", 1)
    assert done.exit_code == 0
    assert "time per call (measured)" in done.stdout


def test_bench_cannot_give_an_artifact_to_other_engines(
    run: Run, model: Path, tmp_path: Path
) -> None:
    run("compile", model, "-o", tmp_path / "m.tapeout")
    done = run("bench", tmp_path / "m.tapeout", "--against", "onnxruntime")
    assert done.exit_code == 2
    assert "need a model" in done.stderr


def test_bench_names_the_engines_that_it_knows(run: Run, model: Path) -> None:
    done = run("bench", model, "--against", "abacus")
    assert done.exit_code == 2
    assert "onnxruntime, openvino" in done.stderr


def test_bench_says_which_engine_cannot_load_the_model(
    run: Run, model: Path, tmp_path: Path
) -> None:
    proto = onnx.load(model)
    proto.ir_version = 14  # newer than the engine reads
    onnx.save(proto, tmp_path / "newer.onnx")
    done = run("bench", tmp_path / "newer.onnx", "--against", "onnxruntime")
    assert done.exit_code == 1
    assert "error[E0604]" in done.stderr
    assert "IR version" in done.stderr


def test_targets_lists_every_device_with_its_compiler(run: Run) -> None:
    folder = Path(__file__).parents[2] / "targets" / "cpu" / "devices"
    told = run("targets").stdout
    for device in folder.glob("*.toml"):
        assert f"cpu:{device.stem}" in told
    assert "aarch64-linux-gnu-gcc" in told


def test_python_refuses_what_has_no_importer(tmp_path: Path) -> None:
    from tapeout.ir.errors import CompileError

    for model in (1.5, object()):
        with pytest.raises(CompileError, match="E0404"):
            tapeout.compile(model, output=tmp_path / "m.tapeout")
