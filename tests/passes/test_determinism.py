"""The same module simplifies to the same text whatever the order of hashes."""

import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from tapeout.passes.manager import run
from tapeout.passes.pipeline import LAYOUT, SIMPLIFY
from tapeout.passes.text import module_text, read_module
for path in sorted(Path("tests/filecheck").glob("*.mlir")):
    module = read_module(path)
    run(module, [*SIMPLIFY, *LAYOUT])
    print(module_text(module))
"""


def simplified(seed: str, root: str) -> str:
    environment = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment, cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_text_does_not_depend_on_the_hash_seed(pytestconfig: pytest.Config) -> None:
    root = str(pytestconfig.rootpath)
    one = simplified("1", root)
    assert "nn.attention" in one
    assert one == simplified("2", root)
