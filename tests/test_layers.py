"""The layers of the project: who may import whom, what stands at the top, what loading costs."""

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("frontend", "ir", "passes", "targets", "runtime")
TOP = {"pyproject.toml", "README.md", "Makefile", "LICENSE", "tests", *LAYERS}

MAY_IMPORT = {
    "ir": {"ir"},
    "runtime": {"runtime"},
    "passes": {"passes", "ir"},
    "targets": {"targets", "passes", "ir", "runtime.artifact"},
    "frontend": {"frontend", "ir"},
}
"""What each layer imports of the project: prefixes below ``tapeout``."""

FILES = sorted(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))


def is_composition_root(file: Path) -> bool:
    """The files of ``frontend`` itself, the package's face, and the ONNX backend."""
    inside = file.relative_to(ROOT)
    faces = ("frontend/api/__init__.py", "frontend/onnx/backend.py")
    return inside.parent == Path("frontend") or inside.as_posix() in faces


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module or name that a file imports, dotted, wherever in the file it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports spell the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def optional(tree: ast.Module) -> set[str]:
    """Imports inside a ``try`` that goes on without them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            caught = {n.id for h in node.handlers for n in ast.walk(h) if isinstance(n, ast.Name)}
            if "ImportError" in caught:
                found.update(imports(ast.Module(node.body, [])))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_follow_the_arrow(layer: str) -> None:
    wrong: list[str] = []
    for file in FILES:
        if not file.is_relative_to(ROOT / layer) or is_composition_root(file):
            continue
        for name in imports(ast.parse(file.read_text())):
            own = name.removeprefix("tapeout.")
            allowed = any(below(own, prefix) for prefix in MAY_IMPORT[layer])
            if below(name, "tapeout") and name != "tapeout.__version__" and not allowed:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_importers_know_nothing_of_the_composition_root() -> None:
    roots = {f"tapeout.frontend.{file.stem}" for file in (ROOT / "frontend").glob("*.py")}
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in FILES
        if file.is_relative_to(ROOT / "frontend") and not is_composition_root(file)
        for name in imports(ast.parse(file.read_text()))
        if any(below(name, root) for root in roots)
    ]
    assert wrong == []


def test_the_runtime_needs_numpy_and_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "tapeout"}
    wrong: list[str] = []
    for file in FILES:
        if file.is_relative_to(ROOT / "runtime"):
            tree = ast.parse(file.read_text())
            needed = set(imports(tree)) - optional(tree)
            wrong += [f"{file.name}: {n}" for n in needed if n.partition(".")[0] not in allowed]
    assert wrong == []


def test_torch_is_known_to_its_importers_alone() -> None:
    wrong = [
        str(file.relative_to(ROOT))
        for file in FILES
        if any(below(name, "torch") for name in imports(ast.parse(file.read_text())))
        and not file.is_relative_to(ROOT / "frontend/aten")
        and not file.is_relative_to(ROOT / "frontend/llm")
        and file not in (ROOT / "frontend/importing.py", ROOT / "frontend/dynamo.py")
    ]
    assert wrong == []


def test_exactly_the_known_names_stand_at_the_top() -> None:
    ignored = [
        line.strip("/")
        for line in (ROOT / ".gitignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert found == TOP


def test_nothing_is_named_outside_of_the_package() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in FILES
        for name in imports(ast.parse(file.read_text()))
        if name.partition(".")[0] in LAYERS
    ]
    assert wrong == []


def imported_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running ``code``."""
    tell = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{tell}"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_loading_imports_no_compiler() -> None:
    held = imported_by("import tapeout; tapeout.load")
    assert held.isdisjoint({"onnx", "xdsl", "torch", "ortools", "jinja2", "networkx", "ml_dtypes"})


def test_help_imports_neither_numpy_nor_a_compiler() -> None:
    held = imported_by("from tapeout.frontend.cli import main\nmain(['--help'], None, None, False)")
    assert held.isdisjoint({"numpy", "rich", "onnx", "xdsl", "torch"})


def test_running_an_artifact_imports_no_compiler() -> None:
    held = imported_by("import tapeout.frontend.cli, tapeout.frontend.arrays; tapeout.load")
    assert held.isdisjoint({"onnx", "xdsl", "torch", "rich", "ml_dtypes"})
