"""The wheel: everything that the source folders hold, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("frontend", "ir", "passes", "targets", "runtime")
SHIPPED = (".py", ".j2", ".toml", ".c", ".h", ".typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources: a ``build`` folder left behind would be shipped."""
    folder = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__")
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, folder / "source" / layer, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(folder / "source")], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def expected() -> set[str]:
    """Names in the package for all files of the source folders that are shipped."""
    found: set[str] = set()
    for layer in LAYERS:
        for file in (ROOT / layer).rglob("*"):
            if file.suffix in SHIPPED or file.name == "py.typed":
                found.add(f"tapeout/{file.relative_to(ROOT).as_posix()}")
    face = "tapeout/frontend/api/__init__.py"
    return found - {face} | {"tapeout/__init__.py"}


def test_wheel_holds_every_source_template_table_and_header(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected()


def test_wheel_answers_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere it loads, finds its devices and C sources, and knows its version."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, '.'); import tapeout;"
        "from tapeout.targets.cpu.device import devices;"
        "from tapeout.runtime.artifact import c_sources;"
        "print(tapeout.__file__, len(devices()), len(c_sources()), len(c_sources('cuda')))"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path[1:]!r}; {code}"]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    place, devices, sources, with_cuda = told.stdout.split()
    assert Path(place) == tmp_path / "tapeout" / "__init__.py"
    assert int(devices) == len(list((ROOT / "targets/cpu/devices").glob("*.toml")))
    plain = {file.name for file in (ROOT / "runtime/c").glob("*.?")}
    assert int(sources) == len(plain)
    assert int(with_cuda) == len(plain | {f.name for f in (ROOT / "runtime/c/cuda").iterdir()})
