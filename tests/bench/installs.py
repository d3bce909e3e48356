"""Python environments as users have them: an installed wheel, numpy, and nothing else.

The development environment would not do to measure a start: its editable install goes through an
import hook that costs more than importing this project. The environments are kept in
``$TAPEOUT_CACHE/bench`` (``~/.cache/tapeout/bench``), each under a hash of what is in it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = ("frontend", "ir", "passes", "targets", "runtime")
FACE = ("pyproject.toml", "README.md", "LICENSE")


def with_tapeout() -> Path:
    """Return the Python of an environment with this tree's wheel and numpy."""
    ready = kept("tapeout", [_pinned("numpy"), *sources()])
    if not ready.exists():
        with tempfile.TemporaryDirectory() as folder:
            _fill(ready, [_pinned("numpy"), str(_wheel(Path(folder)))])
    return ready / "bin" / "python"


def with_package(name: str) -> Path:
    """Return the Python of an environment with ``name``, in the version at hand, and numpy."""
    packages = [_pinned("numpy"), _pinned(name)]
    ready = kept(name, packages)
    if not ready.exists():
        _fill(ready, packages)
    return ready / "bin" / "python"


def sources() -> list[str]:
    """Return each file of this tree that the wheel holds, with its hash."""
    files = sorted(p for layer in LAYERS for p in (ROOT / layer).rglob("*") if _is_source(p))
    return [f"{p.relative_to(ROOT)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]


def _pinned(name: str) -> str:
    return f"{name}=={version(name)}"


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def kept(name: str, contents: list[str]) -> Path:
    """Where the folder with these contents stands, or will."""
    base = os.environ.get("TAPEOUT_CACHE")
    root = Path(base) if base else Path.home() / ".cache" / "tapeout"
    key = hashlib.sha256("\n".join([sys.version, *contents]).encode()).hexdigest()[:12]
    return root / "bench" / f"{name}-{key}"


def made(name: str, contents: list[str], fill: Callable[[Path], None]) -> Path:
    """Return the folder that ``fill`` fills, unless that was done before; older ones go away."""
    home = kept(name, contents)
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        for stale in home.parent.glob(f"{name}-{'[0-9a-f]' * 12}"):
            shutil.rmtree(stale)
        partial = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
        try:
            fill(partial)
            partial.rename(home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return home


def _fill(ready: Path, packages: list[str]) -> None:
    """Make an environment; one that was left half made, or is out of date, goes away."""
    ready.parent.mkdir(parents=True, exist_ok=True)
    for stale in ready.parent.glob(f"{ready.name.rpartition('-')[0]}-*"):
        shutil.rmtree(stale)
    partial = ready.with_name(f"{ready.name}.partial")
    _run(sys.executable, "-m", "venv", "--without-pip", str(partial))
    python = partial / "bin" / "python"
    _run(*_PIP, "--python", str(python), "install", "--quiet", *packages)
    _run(str(python), "-m", "compileall", "-q", str(partial / "lib"))
    partial.rename(ready)


def _wheel(folder: Path) -> Path:
    """Build the wheel from a copy: a ``build`` folder left behind would be in it."""
    for layer in LAYERS:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / layer, folder / "source" / layer, ignore=skip)
    for name in FACE:
        shutil.copy(ROOT / name, folder / "source" / name)
    _run(*_PIP, "wheel", "--quiet", "--no-deps", "-w", str(folder), str(folder / "source"))
    (built,) = folder.glob("*.whl")
    return built


_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def _run(*command: str) -> None:
    """Run quietly; a failure shows what the command said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
