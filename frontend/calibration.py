"""Calibration data: sets of named inputs, from files or from Python, checked against a module.

A set is one of

* a folder of ``.npz`` files in the order of their names: each holds the inputs of one call;
* one ``.npz`` file whose arrays have a first axis of samples: one more than the input has, or,
  where the input's own first axis is a batch, that axis, of which a sample is the least batch;
* any Python iterable of mappings from names to arrays, a sample each.

Beside the inputs a set may hold ``labels``, which evaluation reads and calibration passes over: an
array of as many, or of a multiple of as many, as there are samples.

One sample is read at a time. Errors: E0107 for a set that is missing or empty, E0104 for a file
that cannot be read, E0108 for names, E0109 for NaN and infinities, E0203 for element types, E0208
for shapes.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from tapeout.frontend.npz import Member, members
from tapeout.frontend.samples import check_names, check_sample, shape_misfit
from tapeout.ir.errors import CompileError
from tapeout.ir.expr import as_symbol
from tapeout.ir.module import Module
from tapeout.ir.types import Spec, spec

Array = np.ndarray[Any, Any]
Sample: TypeAlias = Mapping[str, Array]
LABELS = "labels"
Source: TypeAlias = str | os.PathLike[str] | Iterable[Sample]


@dataclass(frozen=True)
class CalibrationSet:
    """Samples for the inputs of one entry, checked as they are read; at most ``limit`` of them.

    Reading it again reads the source again: a generator has been used up by then, a list or a
    file has not.
    """

    source: Source
    inputs: Mapping[str, Spec]
    limit: int | None = None
    name: str = "calibration set"

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Each sample, as the evaluator takes it."""
        return (sample for sample, _ in self.labelled())

    def labelled(self) -> Iterator[tuple[dict[str, Array], Array | None]]:
        """Each sample with its labels, where there are some."""
        count = 0
        for where, sample in islice(self._read(), self.limit):
            given, labels = _apart(sample) if LABELS not in self.inputs else (sample, None)
            yield check_sample(where, given, self.inputs), labels
            count += 1
        if not count:
            raise self._unusable("holds no samples", self.source, "give at least one sample")

    def _read(self) -> Iterator[tuple[str, Sample]]:
        if not isinstance(self.source, str | os.PathLike):
            return ((f"sample {i}", sample) for i, sample in enumerate(self.source))
        path = Path(os.fspath(self.source))
        if path.is_dir():
            return self._folder(path)
        if path.is_file():
            return _stacked(path, self.inputs)
        raise self._unusable(
            "does not exist", path, "give a folder of .npz files, or one .npz file"
        )

    def _folder(self, path: Path) -> Iterator[tuple[str, Sample]]:
        files = sorted(path.glob("*.npz"))
        if not files:
            fix = "numpy.savez('0.npz', NAME=array) writes one"
            raise self._unusable("holds no .npz file", path, fix)
        for file in files:
            yield str(file), {name: member.whole() for name, member in members(file).items()}

    def _unusable(self, what: str, source: Source, fix: str) -> CompileError:
        if isinstance(source, str | os.PathLike):
            text = os.fspath(source)
        else:
            text, fix = f"a {type(source).__name__}", f"{fix}; a generator can be read only once"
        return CompileError("E0107", f"the {self.name} {what}", [("source", text)], fix)


def calibration_set(
    source: Source,
    module: Module,
    entry: str = "main",
    limit: int | None = None,
    name: str = "calibration set",
) -> CalibrationSet:
    """The samples of ``source`` for the inputs of ``entry``; what is wrong shows while reading.

    ``name`` is what messages call it.
    """
    main = next(e for e in module.entries() if e.sym_name.data == entry)
    values = zip(main.inputs.data, main.body.block.args, strict=True)
    return CalibrationSet(source, {name: spec(value) for name, value in values}, limit, name)


def _stacked(path: Path, inputs: Mapping[str, Spec]) -> Iterator[tuple[str, Sample]]:
    found = members(path)
    labels = found.pop(LABELS, None) if LABELS not in inputs else None
    check_names(str(path), found, inputs)
    if not inputs:
        return
    takes = {name: _take(found[name], want) for name, want in inputs.items()}
    counts = {name: found[name].shape[0] // (take or 1) for name, take in takes.items()}
    if len(set(counts.values())) > 1:
        raise CompileError(
            "E0208",
            "the arrays of a calibration set hold different numbers of samples",
            [("file", path), ("samples", ", ".join(f"{n}: {c}" for n, c in counts.items()))],
            "make the first axes equally long",
        )
    slices = {name: found[name].slices(take or 1) for name, take in takes.items()}
    if labels is not None:
        slices[LABELS] = labels.slices(_labels_per_sample(labels, max(counts.values())))
    for index, parts in enumerate(zip(*slices.values(), strict=True)):
        sample = dict(zip(slices, parts, strict=True))
        # An axis of samples is not the input's own: it goes.
        own = {n: part if takes.get(n, 1) else part[0] for n, part in sample.items()}
        yield f"{path}, sample {index}", own


def _apart(sample: Any) -> tuple[Any, Array | None]:
    """A sample without its labels, and those; what is no sample is for the check to tell."""
    if not isinstance(sample, Mapping):
        return sample, None
    given = dict(cast("Mapping[str, Any]", sample))
    labels = given.pop(LABELS, None)
    return given, None if labels is None else np.asarray(labels)


def _labels_per_sample(labels: Member, samples: int) -> int:
    count = labels.shape[0] if labels.shape else 0
    if not samples or not count or count % samples:
        raise CompileError(
            "E0208",
            "there are not as many labels as samples",
            [("file", labels.path), ("labels", list(labels.shape)), ("samples", samples)],
            "give labels for each sample along the first axis",
        )
    return count // samples


def _take(found: Member, want: Spec) -> int | None:
    """Elements of the first axis per sample; None when that axis is not the input's own."""
    if len(found.shape) == want.rank + 1:
        return None
    batch = want.dims[0] if len(found.shape) == want.rank > 0 else None
    known = None if batch is None else as_symbol(batch)
    least = known.lo if known else batch.constant if batch is not None else None
    if least is None or found.shape[0] % max(least, 1):
        raise shape_misfit(
            str(found.path),
            found.name,
            want,
            found.shape,
            "put an axis of samples in front of the input's own axes",
        )
    return max(least, 1)
