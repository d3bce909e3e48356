"""What is refused, with which code, and that nothing hostile gets past the doors."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
import torch

import tapeout
from tapeout.frontend.aten.export import loaded
from tapeout.frontend.aten.importer import import_program
from tapeout.frontend.aten.registry import rules
from tapeout.frontend.importing import Example, import_any
from tapeout.ir.errors import CompileError
from tapeout.ir.evaluator import evaluate


@torch.library.custom_op("tapeout_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    """An operator that no rule knows."""
    return x * 2


@twice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_unknown_operators_are_told_all_at_once_with_their_places(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return twice(x) + torch.lgamma(x).cummax(0)[0]

    with pytest.raises(CompileError) as refusal:
        imported(model, torch.ones(3))
    text = str(refusal.value)
    for name in ("tapeout_tests.twice.default", "aten.lgamma.default", "aten.cummax.default"):
        assert f"error[E0401]: operator {name} has no support" in text
    assert text.count("  where: ") == 3


def test_uses_without_support_are_told_all_at_once(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return torch.histc(x), x.view(torch.float64), torch.histc(x) + 1

    with pytest.raises(CompileError) as refusal:
        imported(model, torch.ones(4))
    assert str(refusal.value).count("error[E0402]") == 3


def test_an_operator_inside_of_a_branch_is_found(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: torch.lgamma(x), lambda x: x + 1, (x,))

    with pytest.raises(CompileError, match=r"E0401(.|\n)*aten\.lgamma\.default"):
        imported(model, torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.complex32, torch.float8_e8m0fnu])
def test_an_element_type_without_support_is_refused(imported: Any, dtype: torch.dtype):
    x = torch.zeros(4, dtype=torch.uint8).view(dtype) if dtype.itemsize == 1 else None
    with pytest.raises(CompileError, match=r"E0402(.|\n)*element type"):
        imported(lambda x: x.clone(), torch.zeros(4, dtype=dtype) if x is None else x)


def test_an_input_that_changes_in_place_is_refused_by_name(imported: Any):
    def model(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * 2

    with pytest.raises(CompileError, match=r"E0402(.|\n)*changes its inputs in place(.|\n)*x"):
        imported(model, torch.ones(2))


def test_what_torch_does_not_export_is_refused_in_its_words(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return x if x.sum() > 0 else -x

    with pytest.raises(CompileError, match=r"E0311(.|\n)*torch: +Could not guard"):
        imported(model, torch.ones(2))


LINE = "g (float[N] x) => (float[N] y) { y = Relu(x) }"


def test_wrong_kinds_are_refused():
    with pytest.raises(CompileError, match=r"E0404(.|\n)*builtins\.dict has no importer"):
        import_any({"model": 1})
    text = f'<ir_version: 10, opset_import: ["" : 20]>{LINE}'
    with pytest.raises(CompileError, match="E0104"):
        import_any(onnx.parser.parse_model(text), example=Example((torch.ones(2),)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program in a file, with an open size and a weight."""
    n = torch.export.Dim("rows", min=1, max=8)
    program = torch.export.export(
        torch.nn.Linear(3, 2), (torch.ones(4, 3),), dynamic_shapes=({0: n},)
    )
    path = tmp_path_factory.mktemp("pt2") / "m.pt2"
    torch.export.save(program, path)
    return path


def test_a_saved_program_means_what_it_meant(saved: Path):
    made = loaded(saved)
    module = import_program(made)
    x = torch.randn(5, 3)
    (found,) = evaluate(module, {"input": x.numpy()}).values()
    with torch.no_grad():
        want = made.program.module()(x).numpy()
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-7)


def test_a_file_that_is_none_is_refused(tmp_path: Path, saved: Path):
    with pytest.raises(CompileError, match=r"E0301(.|\n)*does not exist"):
        loaded(tmp_path / "none.pt2")
    whole = saved.read_bytes()
    for name, data in {"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(data)
        with pytest.raises(CompileError, match="E0301"):
            loaded(path)
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as other:
        other.writestr("a", "b")
    with pytest.raises(CompileError, match="E0301"):
        loaded(tmp_path / "other.pt2")


def tapeout_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tapeout.frontend.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_takes_a_saved_program(saved: Path, tmp_path: Path):
    told = tapeout_command("explain", saved)
    assert told.returncode == 0, told.stderr
    assert "input" in told.stdout
    artifact = tmp_path / "m.tapeout"
    done = tapeout_command("compile", saved, "-o", artifact)
    assert (done.returncode, done.stdout) == (0, f"{artifact}\n"), done.stderr
    (found,) = tapeout.load(artifact).run({"input": np.ones((7, 3), np.float32)}).values()
    assert found.shape == (7, 2)
    refused = tapeout_command("compile", saved, "--dim", "rows=3", "-o", artifact)
    assert refused.returncode == 2
    assert "E0103" in refused.stderr


MARKER = 'x"; system("harm"); //\n*/'


def test_names_of_a_program_reach_no_code(tmp_path: Path):
    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(300))

        def forward(self, x: torch.Tensor) -> Any:
            return {MARKER: x * self.weight}

    program = torch.export.export(Named(), (torch.ones(300),))
    folder = tapeout.compile(program, target="cpu:generic", output=tmp_path / "m", format="dir")
    for source in Path(folder).rglob("*.[ch]"):
        for line in source.read_text().splitlines():
            assert '"; system' not in line, f"{source.name}: {line}"
    found = tapeout.load(folder).run({"x": np.ones(300, np.float32)})
    assert list(found) == [MARKER]


def test_every_operator_that_is_kept_whole_has_a_rule():
    from tapeout.frontend.aten.export import WHOLE

    known = {name.split(".")[1] for name in rules() if name.startswith("aten.")}
    assert [name for name in WHOLE if name not in known] == []
