"""``bisect`` names what is broken, where it is broken, and nothing where nothing is.

Faults are made: a pass that changes a weight, a strategy that tiles another function, an emitter
that prints another one, an arena whose buffers lie on each other.
"""

# onnx is only partly annotated.
# pyright: reportUnknownMemberType=false

import json
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from tapeout.frontend import bisect as bisect_
from tapeout.frontend.agreement import Tolerance
from tapeout.frontend.cli import main
from tapeout.ir.module import Module
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.source import WeightOp
from tapeout.ir.ops.structure import KernelOp
from tapeout.ir.types import StrAttr
from tapeout.passes.manager import Pass
from tapeout.passes.memory.arena import Arena
from tapeout.passes.memory.steps import Buffer
from tapeout.passes.simplify.fold import Fold
from tapeout.passes.simplify.norms import RecomposeNorms
from tapeout.passes.tile.kernel_io import Lowered, Machine
from tapeout.passes.tile.product import lower_matmul
from tapeout.passes.tile.strategies import STRATEGIES
from tapeout.targets.cpu import target as cpu
from tapeout.targets.cpu.emit.kernel import KernelText
from tapeout.targets.host import program

Array = np.ndarray[Any, Any]
Run = Callable[..., Result]
Bisect = Callable[..., bisect_.Bisection]


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], rows: int | str
) -> Path:
    """A model of ``x: f32[rows, 16]`` with weights ``up [16, 24]`` and ``down [24, 12]``."""
    random = np.random.default_rng(5)
    weights = {"up": (16, 24), "down": (24, 12)}
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array((random.standard_normal(s) / 4).astype(np.float32), name)
            for name, s in weights.items()
        ],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def nodes() -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", "up"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "down"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"]),
    ]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``tanh(x up) down`` and its softmax, for any number of rows."""
    return save(tmp_path / "two.onnx", nodes(), ["logits", "shares"], "N")


@pytest.fixture
def found(model: Path) -> Bisect:
    """``bisect`` of the model for the generic device, on five rows."""

    def call(path: Path = model, **wish: Any) -> bisect_.Bisection:
        at = None if path is not model or "calibrate" in wish else {"N": 5}
        chosen = bisect_.Wish(at=at, **wish)
        return bisect_.bisect(path, "cpu:generic", None, chosen, lambda _: None)

    return call


@pytest.fixture
def run() -> Run:
    """A call of the command line."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)

    return call


def codes(found: bisect_.Bisection) -> list[str]:
    return [error.code for error in found.errors]


def scale_weight(label: str, factor: float) -> Callable[[Pass, Module], None]:
    """What a broken pass does: the weight of that name is multiplied."""

    def apply(_: Pass, module: Module) -> None:
        for op in list(module.ir.walk()):
            if isinstance(op, WeightOp) and module.weights.label(op.symbol.data) == label:
                symbol = module.weights.add(
                    module.weights[op.symbol.data] * np.float32(factor), label
                )
                op.properties["symbol"] = StrAttr(symbol)

    return apply


def no_tanh(kernel: KernelOp) -> KernelOp:
    """The kernel with ``abs`` in place of ``tanh``."""
    changed = kernel.clone()
    for op in changed.walk():
        if isinstance(op, MapOp) and op.fn.data == "tanh":
            op.properties["fn"] = StrAttr("abs")
    return changed


def test_a_healthy_model_of_open_size_and_two_outputs_parts_nowhere(found: Bisect) -> None:
    result = found()
    assert not result.errors
    assert result.source == "made up at N=5"
    assert [row.kernel for row in result.kernels.rows] == [
        "k0_matmul_tanh",
        "k1_matmul",
        "k2_softmax",
    ]
    assert [(r.has_weights, list(r.weights)) for r in result.kernels.rows] == [
        (True, ["up"]),
        (True, ["down"]),
        (False, ["down"]),
    ]
    assert set(result.outputs) == set(result.plain) == {"logits", "shares"}
    assert all(0 <= each.relative < 1e-5 for each in result.outputs.values())


def test_a_broken_pass_is_named_with_the_place_and_nothing_else_is_blamed(
    found: Bisect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecomposeNorms, "apply", scale_weight("down", 1.01))
    result = found()
    assert codes(result) == ["E0801"]
    assert [row.name for row in result.passes.rows if row.parts] == ["recompose-norms"]
    (place,) = [row.place for row in result.passes.rows if row.place is not None]
    assert (place.name, list(place.weights)) == ("nn.matmul", ["down"])
    assert place.difference.relative == pytest.approx(0.01, rel=1e-3)


def test_what_a_broken_pass_does_stays_when_later_passes_do_nothing(
    found: Bisect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecomposeNorms, "apply", scale_weight("down", 1.01))
    assert found().outputs["logits"].relative == pytest.approx(0.01, rel=1e-3)
    assert not found(tolerance=Tolerance(rtol=0.1)).errors


def test_a_pass_that_leaves_no_module_is_told_by_name(
    found: Bisect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shape_only(_: Pass, module: Module) -> None:
        for op in list(module.ir.walk()):
            if isinstance(op, WeightOp):
                symbol = module.weights.add(np.zeros((3, 3), np.float32))
                op.properties["symbol"] = StrAttr(symbol)

    monkeypatch.setattr(Fold, "apply", shape_only)
    with pytest.raises(AssertionError, match=r"after the pass fold.* cannot be evaluated"):
        found()


def test_a_kernel_that_is_tiled_wrong_is_named_and_its_readers_are_not(
    found: Bisect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(kernel: KernelOp, machine: Machine, constants: Set[int]) -> Lowered:
        return lower_matmul(no_tanh(kernel), machine, constants)

    changed = {**STRATEGIES, MatmulOp: (wrong,)}
    monkeypatch.setattr("tapeout.passes.tile.strategies.STRATEGIES", changed)
    result = found()
    assert codes(result) == ["E0802"]
    assert [r.kernel for r in result.kernels.rows if r.difference.parts] == ["k0_matmul_tanh"]
    assert result.stage == "tile"
    assert "weights:   up" in str(result.errors[0])


def test_a_kernel_whose_code_is_wrong_is_told_from_one_that_is_tiled_wrong(
    found: Bisect, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cpu.emit_kernel

    def wrong(*arguments: Any) -> KernelText:
        text = right(*arguments)
        return replace(
            text, source=re.sub(r"v_tanh_f32\((\w+)\)", r"v_mul_f32(\1, \1)", text.source)
        )

    monkeypatch.setattr(cpu, "emit_kernel", wrong)
    result = found()
    assert codes(result) == ["E0802"]
    first = result.kernels.first
    assert first is not None
    assert (first.call, first.kernel, result.stage) == (0, "k0_matmul_tanh", "emit")
    assert not any(row.difference.parts for row in result.kernels.rows[1:])


def test_buffers_that_lie_on_each_other_are_found_where_every_kernel_is_right(
    found: Bisect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heap(buffers: Sequence[Buffer]) -> Arena:
        return Arena((0,) * len(buffers), max((int(b.bytes) for b in buffers), default=0), 0)

    monkeypatch.setattr(program, "place", heap)
    fixed = save(
        tmp_path / "fixed.onnx",
        [
            helper.make_node("MatMul", ["x", "up"], ["h"]),
            helper.make_node("MatMul", ["h", "down"], ["i"]),
            helper.make_node("Softmax", ["i"], ["y"]),
        ],
        ["y"],
        9,
    )
    result = found(fixed)
    assert codes(result) == ["E0803"]
    assert not any(row.difference.parts for row in result.kernels.rows)


@pytest.mark.parametrize("format", ["int8", "int8-dynamic"])
def test_quantising_is_reported_as_loss_by_layer_and_no_kernel_parts(
    found: Bisect, tmp_path: Path, format: str
) -> None:
    samples = np.random.default_rng(1).standard_normal((6, 5, 16)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    result = found(quantize=format, calibrate=tmp_path / "samples.npz")
    assert not result.errors
    assert result.source == "first sample of --calibrate"
    (asked,) = [row for row in result.passes.rows if row.asked]
    assert asked.name == "quantize-layers"
    assert asked.difference is not None
    assert 1e-4 < asked.difference.relative < 0.05
    first, second = result.passes.layers
    assert (first.name, second.name) == ("up", "down")
    assert 30 < first.own.sqnr_db == first.so_far.sqnr_db
    # The second layer has its own loss, and that of the first behind it.
    assert 30 < second.so_far.sqnr_db < second.own.sqnr_db


def test_a_broken_pass_is_found_behind_one_that_quantises(
    found: Bisect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapeout.passes.layout.channels_last import ChannelsLast

    def wrong(_: Pass, module: Module) -> None:
        for op in list(module.ir.walk()):
            if isinstance(op, MapOp) and op.fn.data == "tanh":
                op.properties["fn"] = StrAttr("abs")

    monkeypatch.setattr(ChannelsLast, "apply", wrong)
    result = found(quantize="int8-dynamic")
    assert [row.name for row in result.passes.rows if row.parts] == ["channels-last"]


def test_a_branch_is_judged_as_a_whole(found: Bisect, tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["t"], [f"{name}_y"])], name, [], [value])

    parts = [
        *nodes()[:2],
        helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node(
            "If", ["c"], ["y"], then_branch=branch("a", "Exp"), else_branch=branch("b", "Neg")
        ),
    ]
    result = found(save(tmp_path / "branch.onnx", parts, ["y"], 3))
    assert not result.errors
    (unit,) = [row for row in result.kernels.rows if row.kernel == "nn.if"]
    assert {"exp", "neg"} <= set(unit.operators)


def test_the_command_prints_a_table_for_each_question(
    run: Run, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 16), np.float32))
    plain = run("bisect", model, "--target", "cpu:generic", "--input", f"x={tmp_path / 'x.npy'}")
    assert plain.exit_code == 0
    assert plain.stderr == ""
    for words in ("inputs   given", "channels-last", "0 k0_matmul_tanh", "result   nothing parts"):
        assert words in plain.stdout


def test_a_finding_is_status_1_with_its_code(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecomposeNorms, "apply", scale_weight("down", 1.01))
    done = run("bisect", model, "--target", "cpu:generic", "--at", "N=2", "--json")
    assert done.exit_code == 1
    assert "error[E0801]: the pass recompose-norms" in done.stderr
    told = json.loads(done.stdout)
    assert [finding["code"] for finding in told["findings"]] == ["E0801"]
    assert [row["name"] for row in told["passes"] if row["parts"]] == ["recompose-norms"]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--at", "N=2", "--input", "x=x.npy"], 2, "--at is for inputs"),
        (["--at", "Q=2"], 2, "E0103"),
        (["--input", "z=ARRAY"], 2, "E0108"),
        (["--input", "x=ARRAY"], 1, "E0208"),
        (["--calibrate", "missing.npz"], 2, "E0101"),
        (["--rtol", "-1"], 2, "--rtol"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    run: Run, model: Path, tmp_path: Path, arguments: list[str], status: int, code: str
) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 15), np.float32))
    given = [a.replace("ARRAY", str(tmp_path / "a.npy")) for a in arguments]
    done = run("bisect", model, "--target", "cpu:generic", *given)
    assert (done.exit_code, done.stdout) == (status, "")
    assert code in done.stderr


def test_inputs_that_the_model_cannot_run_on_are_refused(run: Run, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["y"])],
        "table",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [8]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opset = helper.make_opsetid("", 20)
    path = tmp_path / "table.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    done = run("bisect", path, "--target", "cpu:generic")
    assert done.exit_code == 2
    assert "error[E0113]" in done.stderr
    assert "--input" in done.stderr


def test_a_model_that_amplifies_does_not_make_a_pass_wrong(
    found: Bisect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sine of a large number has no digits of its own: the last of its argument decides.
    large = [
        *nodes()[:2],
        helper.make_node("Constant", [], ["many"], value_float=1e5),
        helper.make_node("Mul", ["t", "many"], ["u"]),
        helper.make_node("Sin", ["u"], ["y"]),
    ]
    path = save(tmp_path / "sine.onnx", large, ["y"], 4)
    monkeypatch.setattr(RecomposeNorms, "apply", scale_weight("up", 1 + 1e-6))
    result = found(path)
    (row,) = [row for row in result.passes.rows if row.name == "recompose-norms"]
    assert (row.moves, row.parts) == (True, False)
    assert "E0801" not in codes(result)


def test_many_axes_and_sizes_that_data_decides_are_judged_too(
    found: Bisect, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "nine"], ["h"]),
            helper.make_node("Transpose", ["h"], ["t"], perm=[8, *range(8)]),
            helper.make_node("CumSum", ["t", "axis"], ["c"]),
            helper.make_node("ReduceSum", ["c", "axes"], ["y"], keepdims=0),
            helper.make_node("NonZero", ["x"], ["places"]),
        ],
        "nine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("places", TensorProto.INT64, None),
        ],
        [
            numpy_helper.from_array(np.array([2] * 9), "nine"),
            numpy_helper.from_array(np.array(2), "axis"),
            numpy_helper.from_array(np.array([0, 3, 4, 5, 6]), "axes"),
        ],
    )
    opset = helper.make_opsetid("", 20)
    path = tmp_path / "nine.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    result = found(path)
    assert not result.errors
    assert {"k1_cumulative", "k3_non_zero"} <= {row.kernel for row in result.kernels.rows}
