"""What a recipe is, and the cache folder that it fills once.

A made model is a folder with ``model.onnx`` (weights beside it in ``model.onnx.data`` when they are
large), ``inputs.npz`` (one sample of every input, by name) and ``info.json`` (see :class:`Info`);
some recipes add further arrays, which their docstrings name.
"""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false

import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx

Range = tuple[int, int]


@dataclass(frozen=True)
class Recipe:
    """A model: its family, and the range of every symbolic dimension.

    The family is the file of this folder whose ``make(recipe, folder)`` writes ``model.onnx`` and
    returns the :class:`Made` that is stored beside it. ``reads`` are the files, beside those that
    every family uses, that decide what it makes.
    """

    name: str
    family: str
    summary: str
    dims: Mapping[str, Range] = field(default_factory=dict[str, Range])
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Made:
    """What ``make`` hands back: sample inputs, work in flop for those inputs, further arrays."""

    inputs: Mapping[str, np.ndarray]
    flop: int | None = None
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(
        default_factory=dict[str, Mapping[str, np.ndarray]]
    )
    facts: Mapping[str, float] = field(default_factory=dict[str, float])


Make = Callable[[Recipe, Path], Made]


@dataclass(frozen=True)
class Info:
    """The content of ``info.json``."""

    name: str
    summary: str
    folder: str
    opset: int
    nodes: int
    ops: dict[str, int]
    megabytes: float
    seconds: float
    flop: int | None
    dims: dict[str, Range]
    facts: dict[str, float]


def cache_root() -> Path:
    """Return ``$TAPEOUT_CACHE/models``, or ``~/.cache/tapeout/models``."""
    base = os.environ.get("TAPEOUT_CACHE")
    return (Path(base) if base else Path.home() / ".cache" / "tapeout") / "models"


def folder_of(recipe: Recipe) -> Path:
    """Return where the model is, or will be, kept."""
    return cache_root() / f"{recipe.name}-{_version(recipe)}"


def build(recipe: Recipe, *, force: bool = False) -> tuple[Info, bool]:
    """Make the model unless this version of it is there; return its facts and whether it was made.

    Two processes that ask at once wait for each other, and a folder appears only when complete.
    """
    home = folder_of(recipe)
    with _lock(home.parent / f".{recipe.name}.lock"):
        if force:
            shutil.rmtree(home, ignore_errors=True)
        made = not (home / "info.json").exists()
        if made:
            _fill(recipe, home)
    facts = json.loads((home / "info.json").read_text())
    return Info(**(facts | {"folder": str(home)})), made


def stale_folders(recipes: tuple[Recipe, ...]) -> list[Path]:
    """List the model folders in the cache that none of these recipes would use."""
    current = {folder_of(recipe) for recipe in recipes}
    return [p for p in sorted(cache_root().glob("*-*")) if p.is_dir() and p not in current]


def _fill(recipe: Recipe, home: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=home.parent))
    try:
        start = time.perf_counter()
        make: Make = import_module(f".{recipe.family}", __package__).make
        made = make(recipe, scratch)
        for stem, arrays in {"inputs": made.inputs, **made.arrays}.items():
            np.savez(scratch / f"{stem}.npz", allow_pickle=False, **arrays)
        info = _describe(recipe, made, scratch, time.perf_counter() - start)
        (scratch / "info.json").write_text(json.dumps(asdict(info), indent=1))
        scratch.rename(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _describe(recipe: Recipe, made: Made, folder: Path, seconds: float) -> Info:
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    size = sum(p.stat().st_size for p in folder.glob("model.onnx*"))
    return Info(
        name=recipe.name,
        summary=recipe.summary,
        folder="",
        opset=max(o.version for o in model.opset_import if o.domain == ""),
        nodes=len(model.graph.node),
        ops=dict(Counter(n.op_type for n in model.graph.node).most_common()),
        megabytes=round(size / 1e6, 2),
        seconds=round(seconds, 1),
        flop=made.flop,
        dims=dict(recipe.dims),
        facts=dict(made.facts),
    )


def _version(recipe: Recipe) -> str:
    """Hash what decides the model's content: the recipes' text and the exporters' versions."""
    digest = hashlib.sha256()
    for name in (f"{recipe.family}.py", "export.py", "samples.py", "weights.py", "sentences.txt"):
        digest.update((Path(__file__).parent / name).read_bytes())
    for path in recipe.reads:
        digest.update(path.read_bytes())
    for package in ("torch", "transformers", "onnx", "onnxscript", "scikit-learn"):
        digest.update(f"{package}={importlib.metadata.version(package)};".encode())
    return digest.hexdigest()[:12]


@contextmanager
def _lock(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
