"""What the parts of a benchmark share: engines, thread counts, and models prepared once."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from machine import cores
from turns import EngineFailure, Remote
from zoo_models import Model


@dataclass(frozen=True)
class Prepared:
    """What an engine made of a model ahead of time, and how long that took."""

    path: Path
    seconds: float


@dataclass
class Workshop:
    """Prepares models for engines, each once, in a folder that goes away at the end."""

    engines: tuple[str, ...]
    threads: tuple[int, ...]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bench-")))
    failures: list[str] = field(default_factory=list[str])
    refusals: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    _prepared: dict[tuple[str, str], Prepared | None] = field(
        default_factory=dict[tuple[str, str], "Prepared | None"]
    )

    def prepared(self, engine: str, model: Model) -> Prepared | None:
        """Return what the engine made of the model; None when it failed, which is noted."""
        key = (engine, model.name)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(engine, model)
        return self._prepared[key]

    def loaded(
        self, engine: str, model: Model, threads: int, *, bound: bool = False
    ) -> Remote | None:
        """Return a worker with the model loaded; None when it failed, which is noted."""
        prepared = self.prepared(engine, model)
        if prepared is None:
            return None
        remote = Remote(engine, cores()[:threads])
        try:
            arguments = {"inputs": str(model.inputs), "threads": threads, "bound": bound}
            remote.ask("load", path=str(prepared.path), **arguments)
        except EngineFailure as failure:
            self._note(engine, model, failure)
            remote.__exit__(None, None, None)
            return None
        return remote

    def _prepare(self, engine: str, model: Model) -> Prepared | None:
        output = str(self.folder / f"{model.name}-{engine.replace(':', '-')}")
        with Remote(engine, cores()) as remote:
            try:
                arguments = {"model": str(model.path), "dims": model.dims, "output": output}
                samples = str(model.calibration) if model.calibration else None
                answer = remote.ask("prepare", **arguments, calibration=samples)
            except EngineFailure as failure:
                self._note(engine, model, failure)
                return None
        return Prepared(Path(answer["path"]), answer["seconds"])

    def _note(self, engine: str, model: Model, failure: EngineFailure) -> None:
        # Whoever asks for a format may be told that there is none; f32 has to work.
        if failure.refusal is not None and ":" in engine:
            self.refusals[engine, model.name] = failure.refusal
        else:
            self.failures.append(f"{engine} on {model.name}: {failure}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
