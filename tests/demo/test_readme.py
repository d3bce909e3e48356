"""What the READMEs show works as they show it."""

# onnx and torch are only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper

import tapeout
from tapeout.frontend.cli import main

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *ROOT.glob("*/README.md")]
COMMAND = re.compile(r"^ {4}tapeout (.*?)(?: {2,}.*)?$", re.MULTILINE)


def test_the_example_in_c_builds_and_runs(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "total", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    tapeout.compile(model, "cpu:generic", output=tmp_path / "model", format="dir")
    text = (ROOT / "README.md").read_text()
    (source,) = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    (command,) = re.findall(r"^ {4}(gcc .*)$", text, re.MULTILINE)
    (tmp_path / "main.c").write_text(source)
    # This model has no weights of its own; the example's does.
    (tmp_path / "model" / "weights.bin").touch()
    build = shlex.split(command.replace("avx512", "generic"))
    subprocess.run(build, cwd=tmp_path, check=True)
    told = subprocess.run([tmp_path / "main"], cwd=tmp_path, capture_output=True, check=True)
    assert told.stdout == b"36\n"


@pytest.mark.parametrize("readme", READMES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_use_options_that_exist(readme: Path) -> None:
    for line in COMMAND.findall(readme.read_text()):
        name, *rest = shlex.split(line.partition("#")[0])
        command = main.commands[name]
        context = click.Context(command, info_name=name)
        known = {option for p in command.get_params(context) for option in p.opts}
        used = {word for word in rest if re.match(r"--?[a-z]", word)}
        assert used <= known, line


@pytest.mark.parametrize("readme", READMES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(readme: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", readme.read_text()):
        assert link.startswith("https://") or (readme.parent / link).exists(), link


def test_the_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "S"])
    mask = helper.make_tensor_value_info("mask", TensorProto.INT64, ["B", "S"])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, ["B", "S"])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["ids", "mask"], ["y"])], "g", [ids, mask], [y]
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(
        helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "model.onnx"
    )
    monkeypatch.chdir(tmp_path)
    given = np.arange(6).reshape(2, 3)
    names = after("### From Python", {"ids": given, "mask": given % 2})
    np.testing.assert_array_equal(names["outputs"]["y"], given * (given % 2))


def test_the_example_from_torch_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"tapeout": tapeout, "torch": torch, "module": torch.nn.Linear(3, 2)}
    x = torch.arange(12.0).reshape(4, 3)
    names = after("### From torch", {**given, "x": x})
    with torch.inference_mode():
        right = names["module"](x).numpy()
        (y,) = tapeout.load("module.tapeout").run({"input": x.numpy()}).values()
        np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(names["fast"](x).numpy(), right, rtol=1e-5, atol=1e-6)


def test_the_example_of_a_language_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    config = transformers.LlamaConfig(
        **sizes, vocab_size=32, intermediate_size=16, num_hidden_layers=1
    )
    tapeout.compile(transformers.LlamaForCausalLM(config).eval(), output="model.tapeout")
    given = {"tapeout": tapeout, "prompt": [1, 2, 3, 4], "other": [5]}
    names = after("### Text", given)
    assert names["logits"].shape == (2, 32)
    assert names["session"].lengths == (4, 1)
    assert names["fork"].lengths == (5, 2)


def after(heading: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names that README's first Python under a heading leaves behind, run with ``names``."""
    text = (ROOT / "README.md").read_text().partition(heading)[2]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None, heading
    exec(compile(found[1], "README.md", "exec"), names)
    return names
