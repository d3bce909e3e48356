"""``--max-drop`` from the command line: kept, reported, the same twice, and refused in time."""

# onnx is only partly annotated.
# pyright: reportUnknownMemberType=false

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import tapeout
from tapeout.frontend.cli import main
from tapeout.frontend.layer_report import LayerReport

Run = Callable[..., Result]
SIZES = (32, 32, 32, 32)
RANDOM = np.random.default_rng(1)
WEIGHTS = [
    (RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
    for shape in pairwise(SIZES)
]
SAMPLES = RANDOM.standard_normal((24, SIZES[0])).astype(np.float32)


def plain(x: np.ndarray) -> np.ndarray:
    for w in WEIGHTS:
        x = np.maximum(x @ w, 0) if w is not WEIGHTS[-1] else x @ w
    return x


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers; the file keeps the weights as ``layers.N.weight``, transposed."""
    nodes: list[onnx.NodeProto] = []
    value = "x"
    for i in range(len(WEIGHTS)):
        last = i == len(WEIGHTS) - 1
        nodes.append(helper.make_node("Gemm", [value, f"layers.{i}.weight"], [f"h{i}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [f"r{i}"]))
        value = f"h{i}" if last else f"r{i}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIZES[0]])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.ascontiguousarray(w.T), f"layers.{i}.weight")
            for i, w in enumerate(WEIGHTS)
        ],
    )
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(made, path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=SAMPLES, labels=plain(SAMPLES).argmax(1))
    return tmp_path / "data.npz"


@pytest.fixture
def run() -> Run:
    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)

    return call


def test_the_cheapest_formats_that_keep_the_budget_are_reported(
    run: Run, model: Path, data: Path, tmp_path: Path
) -> None:
    artifact, report = tmp_path / "m.tapeout", tmp_path / "report.json"
    asked = ("--quantize", "w8+w4g16+w2g16", "--max-drop", "sqnr=20", "--evaluate", data)
    done = run("compile", model, *asked, "--report", report, "-o", artifact)
    assert (done.exit_code, done.stdout) == (0, f"{artifact}\n")
    assert "budget   sqnr=20: sqnr" in done.stderr
    tree = json.loads(report.read_text())
    rows = {row["layer"]: row for row in tree["rows"]}
    assert list(rows) == [f"layers.{i}.weight" for i in range(3)]
    assert {row["format"] for row in rows.values()} <= {"f32", "w8", "w4g16", "w2g16"}
    assert any(row["why"].startswith("budget: w2g16 has ") for row in rows.values())
    with tapeout.load(artifact) as program:
        have = np.concatenate([program.run({"x": x[None]})["h2"] for x in SAMPLES])
    want = plain(SAMPLES)
    assert 10 * np.log10(np.sum(want**2) / np.sum((have - want) ** 2)) >= 20


def test_the_same_is_chosen_again_and_from_python_too(
    run: Run, model: Path, data: Path, tmp_path: Path
) -> None:
    asked = ("--quantize", "w8+w3g16", "--max-drop", "cosine=0.01", "--evaluate", data)
    assert run("compile", model, *asked, "-o", tmp_path / "a").exit_code == 0
    told: list[LayerReport] = []
    tapeout.compile(
        model,
        quantize="w8+w3g16",
        max_drop="cosine=0.01",
        evaluate=[{"x": x[None]} for x in SAMPLES],
        output=tmp_path / "b",
        tell=told.append,
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [len(report.rows) for report in told] == [3]


def test_auto_takes_what_is_lowered(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    asked = ("--quantize", "auto", "--max-drop", "accuracy=10", "--evaluate", data)
    done = run("compile", model, *asked, "--calibrate", data, "-o", tmp_path / "m")
    assert done.exit_code == 0, done.output
    assert "3 of 3 quantised" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--quantize auto", "E0101"),
        ("--quantize w8+w4g32", "E0101"),
        ("--max-drop sqnr=20 --evaluate DATA", "E0101"),
        ("--quantize w8 --max-drop sqnr=20", "E0101"),
        ("--quantize w8 --evaluate DATA", "E0101"),
        ("--quantize formats.toml --max-drop sqnr=20 --evaluate DATA", "E0101"),
        ("--quantize w8+w9 --max-drop sqnr=20 --evaluate DATA", "E0111"),
        ("--quantize w8+int8 --max-drop sqnr=20 --evaluate DATA", "E0110"),
        ("--quantize w8 --max-drop snr=20 --evaluate DATA", "E0114"),
        ("--quantize w8 --max-drop accuracy=-1 --evaluate DATA", "E0114"),
        ("--quantize w8 --max-drop sqnr=200 --evaluate DATA", "E0707"),
        ("--quantize w8 --max-drop sqnr=20 --evaluate none.npz", "E0107"),
        ("--quantize w8 --report nowhere/report.json", "E0116"),
    ],
)
def test_what_makes_no_budget_is_refused(
    run: Run, model: Path, data: Path, tmp_path: Path, arguments: str, code: str
) -> None:
    words = [str(data) if word == "DATA" else word for word in arguments.split()]
    done = run("compile", model, *words, "-o", tmp_path / "m")
    assert f"error[{code}]" in done.stderr
    assert done.exit_code == (2 if code.startswith("E01") else 1)


@pytest.mark.parametrize(
    "labels",
    [None, np.zeros(24), np.full(24, 32), np.zeros((24, 2), np.int64)],
    ids=["none", "floats", "no class", "too many"],
)
def test_labels_that_do_not_fit_are_told(
    run: Run, model: Path, tmp_path: Path, labels: np.ndarray | None
) -> None:
    given = {"x": SAMPLES} | ({} if labels is None else {"labels": labels})
    np.savez(tmp_path / "data.npz", allow_pickle=False, **given)
    asked = ("--quantize", "w8", "--max-drop", "accuracy=1", "--evaluate", tmp_path / "data.npz")
    done = run("compile", model, *asked, "-o", tmp_path / "m")
    assert "error[E0115]" in done.stderr


def test_explain_says_what_layers_become(run: Run, model: Path) -> None:
    told = run("explain", model, "--quantize", "w4g32", "--at", "N=1").stdout
    assert "layers.1.weight" in told
    assert "3 of 3 quantised" in told
    asked = ("--quantize", "int8-dynamic", "--target", "cpu:neon", "--at", "N=1000")
    slow = run("explain", model, *asked)
    assert "error[E0706]" in slow.stderr
    assert "in f32" in slow.stderr
