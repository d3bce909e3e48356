"""Programs are small and their memory is known beforehand: measured in a C program."""

import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tapeout.runtime.manifest import NAME, WEIGHTS, Manifest

pytestmark = pytest.mark.models

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "runtime" / "c"

CODE_BYTES_MAX = 1_000_000
OVERHEAD_BYTES_MAX = 4_000_000
"""Code pages, stacks and tables that a process needs beside weights and working memory."""

SIZES = {"B": 2, "S": 100}

MODELS = ("resnet50", "mobilenetv2", "vit-base", "bert-base", "minilm", "gpt2", "digits", "mlp")


def _unpacked(artifact: Path, folder: Path) -> Manifest:
    with zipfile.ZipFile(artifact) as archive:
        archive.extractall(folder)
    return Manifest.from_json((folder / NAME).read_bytes())


def _built(manifest: Manifest, folder: Path) -> Path:
    """Link the measuring program with the code of an unpacked artifact."""
    code = folder / manifest.code[0].file
    program = folder / "predictable"
    flags = ["-O2", f"-I{HEADERS}", f"-Wl,-rpath,{code.parent}", "-o", str(program)]
    source = [str(HERE / "predictable.c"), str(code)]
    subprocess.run([os.environ.get("CC", "cc"), *source, *flags], check=True)
    return program


def _run(program: Path, manifest: Manifest, runs: int) -> dict[str, Any]:
    sizes = [str(SIZES[symbol.name]) for symbol in manifest.symbols]
    command = [str(program), str(program.with_name(WEIGHTS)), "2", str(runs), *sizes]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", MODELS)
def test_code_is_small_and_a_run_allocates_nothing_and_peaks_where_it_must(
    compiled: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    manifest = _unpacked(compiled(name), tmp_path)
    for form in manifest.code:
        assert manifest.files[form.file].bytes < CODE_BYTES_MAX
    measured = _run(_built(manifest, tmp_path), manifest, runs=3)
    assert measured["open_allocations"] > 0, "the counter must see the model's allocations"
    assert measured["allocations"] == 0
    known = measured["weights_bytes"] + measured["working_bytes"]
    assert measured["peak_bytes"] < known + OVERHEAD_BYTES_MAX
