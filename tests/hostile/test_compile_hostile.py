"""Hostile models all the way through ``tapeout.compile``, each in a process of its own.

A process has twenty seconds and a fixed address space; it ends by itself, with a coded refusal or
an artifact. What an artifact holds is searched for the marker that stands in every harmful name:
it may occur in the manifest and inside string literals, and nowhere else.
"""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

if TYPE_CHECKING:
    from hostile_models import Hostile

_SECONDS = 20
_ADDRESS_SPACE = 8 * 2**30

_CHILD = """
import json, resource, sys
job = json.loads(sys.stdin.read())
resource.setrlimit(resource.RLIMIT_AS, (job["address_space"],) * 2)
import numpy as np
import tapeout
from tapeout.ir.errors import CompileError
try:
    dims = {name: tuple(bounds) for name, bounds in job["dims"].items()}
    tapeout.compile(job["model"], target="cpu:generic", dims=dims, output=job["artifact"])
except CompileError as error:
    print(json.dumps({"code": error.code, "text": str(error)}))
    sys.exit()
outputs = []
if job["feed"] is not None:
    feeds = {job["feed"]: np.zeros(2, np.float32)}
    outputs = [each.tolist() for each in tapeout.load(job["artifact"]).run(feeds).values()]
print(json.dumps({"code": "compiled", "text": "", "outputs": outputs}))
"""


def _compile(model: "Hostile", path: Path, artifact: Path, feed: str | None) -> dict[str, Any]:
    """Compile in a child, and run it on zeros when ``feed`` names its input; return its report."""
    job = {
        "model": str(path),
        "artifact": str(artifact),
        "dims": model.dims,
        "feed": feed,
        "address_space": _ADDRESS_SPACE,
    }
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(json.dumps(job), timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        pytest.fail(f"still compiling after {_SECONDS} s")
    assert child.returncode == 0, f"ended with {child.returncode}: {err[-2000:]}"
    return json.loads(out.splitlines()[-1])


def test_ends_by_itself_and_as_foreseen(past_load: "Hostile", tmp_path: Path, marker: str) -> None:
    (tmp_path / "in").mkdir()
    path = past_load.build(tmp_path / "in")
    artifact = tmp_path / "m.tapeout"
    must_compile = past_load.outcome.startswith("compiles")
    graph = onnx.ModelProto.FromString(path.read_bytes()).graph
    report = _compile(past_load, path, artifact, graph.input[0].name if must_compile else None)
    if report["code"] == "compiled":
        must_refuse = past_load.outcome.startswith("refused by compile")
        assert not must_refuse, "it compiled, though it asks for what cannot be"
        check_no_injection(artifact, marker)
    else:
        assert not must_compile, report["text"]
        assert re.fullmatch(r"E0[1-4]\d\d", report["code"])
        assert [part for part in past_load.says if part not in report["text"]] == []
        assert all(line.isprintable() for line in report["text"].split("\n"))
    if must_compile:
        # Every node adds [1, 2]: names that collide once sanitised would add the wrong values.
        count = len(graph.node)
        assert report["outputs"] == [[count, 2 * count]]


def check_no_injection(artifact: Path, marker: str) -> None:
    """Fail when a name of the model stands in generated text outside of a string literal."""
    with zipfile.ZipFile(artifact) as entries:
        for name in entries.namelist():
            assert marker not in name
            assert not name.startswith("/")
            assert ".." not in name.split("/")
            text = _text(entries.read(name))
            if text is not None and name != "manifest.json":
                assert marker not in _without_literals(text), f"{name} holds a model's name"
                assert "??" not in text, f"{name} holds a trigraph"


def _text(content: bytes) -> str | None:
    """Return the text of an entry, None when it is binary: weights, or a library."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _without_literals(source: str) -> str:
    """Return C source without its string literals, which end on the line that they start on."""
    return re.sub(r'"(?:[^"\\\n]|\\[^\n])*"', '""', source)


@pytest.mark.parametrize(
    "source",
    ["/* MARK */", '"a" MARK "b"', '"a\\" MARK', '// "\nMARK"', '"??/" MARK "'],
    ids=["comment", "between literals", "escaped quote", "broken line", "after a trigraph"],
)
def test_the_search_finds_what_breaks_out(source: str, tmp_path: Path) -> None:
    artifact = tmp_path / "m.tapeout"
    with zipfile.ZipFile(artifact, "w") as entries:
        entries.writestr("kernels/0.c", source)
    with pytest.raises(AssertionError):
        check_no_injection(artifact, "MARK")


def test_the_search_allows_names_in_escaped_strings(tmp_path: Path) -> None:
    artifact = tmp_path / "m.tapeout"
    with zipfile.ZipFile(artifact, "w") as entries:
        entries.writestr("names.c", 'static const char *names[] = {"MARK\\"\\n*/ \\?\\?/"};\n')
        entries.writestr("manifest.json", '{"inputs": ["MARK"]}')
        entries.writestr("weights.bin", b"MARK\0")
    check_no_injection(artifact, "MARK")
