"""Calibration data: every way to bring it, and every way to bring it wrong."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from tapeout.frontend.calibration import CalibrationSet, Source, calibration_set
from tapeout.ir.dtypes import DTYPES
from tapeout.ir.errors import CompileError, CompileErrors
from tapeout.ir.expr import symbol
from tapeout.ir.expr_text import parse_exprs
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]

# numpy's own types mistake names of arrays for its option.
savez: Callable[..., None] = np.savez
savez_compressed: Callable[..., None] = np.savez_compressed

SYMBOLS = {
    "B": symbol("B", 1, 8),
    "P": symbol("P", 2, 8),
    "S": symbol("S", 1, 512),
}


def taking(**inputs: str) -> Module:
    """A module with the inputs ``name="f32 B, S"``."""
    specs = [
        (name, Spec(parse_exprs(shape, SYMBOLS), DTYPES[dtype]))
        for name, (dtype, _, shape) in ((n, t.partition(" ")) for n, t in inputs.items())
    ]
    entry = EntryOp("main", specs)
    entry.body.block.add_op(ReturnOp([]))
    return Module(ModuleOp([entry]))


TEXT = taking(ids="i64 B, S", scores="f32 B, S, 4")


def text_sample(n: int, batch: int = 1) -> Sample:
    random = np.random.default_rng(n)
    return {
        "ids": random.integers(0, 9, (batch, n + 1)),
        "scores": random.standard_normal((batch, n + 1, 4)).astype(np.float32),
    }


def same(have: CalibrationSet, want: list[Sample]) -> None:
    samples = list(have)
    assert len(samples) == len(want)
    for a, b in zip(samples, want, strict=True):
        assert list(a) == list(have.inputs)
        for name, array in b.items():
            np.testing.assert_array_equal(a[name], array, strict=True)


def refused(source: Source, module: Module = TEXT) -> CompileError:
    with pytest.raises(CompileError) as caught:
        list(calibration_set(source, module))
    return caught.value


def test_a_folder_holds_a_call_in_each_file(tmp_path: Path) -> None:
    want = [text_sample(n, batch=n % 3 + 1) for n in range(5)]
    for n, sample in enumerate(want):
        save = savez if n % 2 else savez_compressed
        save(tmp_path / f"{n}.npz", **sample)
    (tmp_path / "notes.txt").write_text("not a sample")
    found = calibration_set(tmp_path, TEXT)
    same(found, want)
    same(found, want)
    same(calibration_set(str(tmp_path), TEXT, limit=2), want[:2])


@pytest.mark.parametrize("save", [savez, savez_compressed])
def test_one_file_holds_samples_along_its_first_axis(
    tmp_path: Path, save: Callable[..., None]
) -> None:
    many = text_sample(6, batch=5)
    want = [{name: array[i : i + 1] for name, array in many.items()} for i in range(5)]
    save(tmp_path / "batch.npz", **many)
    same(calibration_set(tmp_path / "batch.npz", TEXT), want)
    # With an axis of its own; one input either way.
    save(tmp_path / "own.npz", **{"scores": many["scores"][:, None], "ids": many["ids"]})
    same(calibration_set(tmp_path / "own.npz", TEXT), want)


def test_samples_of_one_file_take_the_least_batch(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    savez(tmp_path / "x.npz", x=x)
    for dims, size in (("P, 4", 2), ("3, 4", 3), ("6, 4", 6)):
        found = calibration_set(tmp_path / "x.npz", taking(x=f"f32 {dims}"))
        same(found, [{"x": x[i : i + size]} for i in range(0, 6, size)])
    assert refused(tmp_path / "x.npz", taking(x="f32 4, 4")).code == "E0208"


def test_arrays_in_fortran_order_and_scalars_are_sliced_too(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(3, 2, 4))
    t = np.array([0.5, 1.5, 2.5], np.float32)
    savez(tmp_path / "x.npz", x=x, t=t)
    found = calibration_set(tmp_path / "x.npz", taking(x="f32 2, 4", t="f32 "))
    same(found, [{"x": x[i], "t": t[i]} for i in range(3)])


@pytest.mark.parametrize("dtype", ["bf16", "f16", "i8", "bool", "u4"])
def test_every_element_type_comes_back_from_files(tmp_path: Path, dtype: str) -> None:
    x = (np.arange(6).reshape(3, 2) % 2).astype(DTYPES[dtype].numpy)
    savez(tmp_path / "x.npz", x=x)
    same(calibration_set(tmp_path / "x.npz", taking(x=f"{dtype} 2")), [{"x": row} for row in x])


def test_bits_of_a_foreign_type_are_taken_as_the_runtime_does() -> None:
    x = np.arange(4).astype(ml_dtypes.bfloat16)
    same(calibration_set([{"x": x.view(np.uint16)}], taking(x="bf16 4")), [{"x": x}])
    assert refused([{"x": x.view(np.int16)}], taking(x="bf16 4")).code == "E0203"


def test_any_iterable_is_read_a_sample_at_a_time() -> None:
    drawn: list[int] = []

    def stream() -> Iterator[Sample]:
        for n in range(4):
            drawn.append(n)
            yield text_sample(n)

    samples = iter(calibration_set(stream(), TEXT))
    next(samples)
    next(samples)
    assert drawn == [0, 1]
    same(
        calibration_set([text_sample(n) for n in range(3)], TEXT),
        [text_sample(n) for n in (0, 1, 2)],
    )
    plain: Any = [{"x": [[1.0, 2.0]]}]
    same(calibration_set(plain, taking(x="f64 B, 2")), [{"x": np.array([[1.0, 2.0]])}])


def test_a_missing_and_an_unknown_name_are_told_together() -> None:
    sample = text_sample(1)
    sample["image"] = sample.pop("ids")
    error = refused([text_sample(0), sample])
    assert error.code == "E0108"
    assert dict(error.facts) == {
        "where": "sample 1",
        "missing": "ids",
        "unknown": "image",
        "inputs": "ids, scores",
    }


def test_names_in_a_file_are_checked_before_it_is_read(tmp_path: Path) -> None:
    savez(tmp_path / "x.npz", ids=np.zeros((1, 1), np.int64))
    error = refused(tmp_path / "x.npz")
    assert (error.code, dict(error.facts)["missing"]) == ("E0108", "scores")


def test_another_element_type_names_both_and_the_conversion() -> None:
    sample = text_sample(1)
    sample["ids"] = sample["ids"].astype(np.int32)
    error = refused([sample])
    assert error.code == "E0203"
    assert dict(error.facts) == {"where": "sample 0", "input": "ids: i64", "given": np.int32}
    assert error.fix == "convert it: array.astype('int64')"
    swapped = text_sample(1)["scores"].astype(">f4")
    assert refused([text_sample(1) | {"scores": swapped}]).code == "E0203"


def shape_error(**arrays: Array) -> CompileError:
    error = refused([text_sample(2) | arrays])
    assert error.code == "E0208"
    return error


def test_another_number_of_axes() -> None:
    error = shape_error(ids=np.zeros(3, np.int64))
    assert dict(error.facts)["input"] == "ids[B, S]"
    assert dict(error.facts)["given"] == [3]
    assert "2 axes" in error.fix


def test_another_fixed_size() -> None:
    assert "scores[B, S, 4]" in str(shape_error(scores=np.zeros((1, 3, 5), np.float32)))


def test_sizes_that_disagree_between_inputs() -> None:
    error = shape_error(scores=np.zeros((1, 7, 4), np.float32))
    assert "S is 3" in error.fix


def test_sizes_outside_of_their_range() -> None:
    error = refused([text_sample(600)])
    assert isinstance(error, CompileErrors)
    assert [e.code for e in error.errors] == ["E0208", "E0208"]
    assert "S from 1 to 512" in str(error)
    assert "S is 601" in str(error)


def test_a_size_that_is_computed_from_others() -> None:
    module = taking(x="f32 B, 4", y="f32 B * 2 + 1")
    x, y = np.zeros((2, 4), np.float32), np.zeros(5, np.float32)
    same(calibration_set([{"x": x, "y": y}], module), [{"x": x, "y": y}])
    assert refused([{"x": x, "y": y[1:]}], module).code == "E0208"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_the_first_is_named(value: float) -> None:
    sample = text_sample(1)
    sample["scores"][0, 1, 2:] = value
    error = refused([text_sample(0), sample])
    assert error.code == "E0109"
    assert dict(error.facts)["where"] == "sample 1"
    assert dict(error.facts)["values"] == f"2 of 8, the first {value} at (0, 1, 2)"


def test_all_that_is_wrong_with_a_sample_is_told_at_once() -> None:
    sample = text_sample(1)
    sample["ids"] = sample["ids"].astype(np.float32)
    sample["scores"][0, 0, 0] = np.nan
    error = refused([sample])
    assert isinstance(error, CompileErrors)
    assert [e.code for e in error.errors] == ["E0203", "E0109"]


def test_a_sample_that_is_no_mapping() -> None:
    wrong: Any = [[np.zeros(3)]]
    error = refused(wrong)
    assert error.code == "E0108"
    assert error.fix == "give {'ids': array, 'scores': array}"


def test_a_set_without_samples(tmp_path: Path) -> None:
    assert refused([]).code == "E0107"
    assert refused(tmp_path).code == "E0107"
    savez(tmp_path / "x.npz", ids=np.zeros((0, 3), np.int64), scores=np.zeros((0, 3, 4), "f"))
    assert refused(tmp_path / "x.npz").code == "E0107"
    used_up = calibration_set(iter([text_sample(0)]), TEXT)
    assert len(list(used_up)) == 1
    with pytest.raises(CompileError, match="read only once"):
        list(used_up)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere.npz")
    assert error.code == "E0107"
    assert str(tmp_path / "nowhere.npz") in str(error)


def test_files_that_hold_no_plain_arrays(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("ids, scores")
    savez(tmp_path / "objects.npz", allow_pickle=True, ids=np.array([{}], object))
    with zipfile.ZipFile(tmp_path / "stray.npz", "w") as archive:
        archive.writestr("ids.txt", "1 2 3")
    for name in ("text", "objects", "stray"):
        error = refused(tmp_path / f"{name}.npz")
        assert (error.code, dict(error.facts)["file"]) == ("E0104", tmp_path / f"{name}.npz")


def test_a_file_that_was_cut_off_or_lies_about_its_length(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    savez(whole, **text_sample(5, batch=9))
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:-100])
    assert refused(tmp_path / "cut.npz").code == "E0104"
    with zipfile.ZipFile(whole) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data[:-40])
    assert refused(tmp_path / "short.npz").code == "E0104"


def test_arrays_of_one_file_with_different_numbers_of_samples(tmp_path: Path) -> None:
    sample = text_sample(2, batch=4)
    savez(tmp_path / "x.npz", ids=sample["ids"], scores=sample["scores"][1:])
    error = refused(tmp_path / "x.npz")
    assert error.code == "E0208"
    assert dict(error.facts)["samples"] == "ids: 4, scores: 3"


def test_arrays_of_one_file_without_an_axis_of_samples(tmp_path: Path) -> None:
    savez(tmp_path / "x.npz", ids=np.zeros(3, np.int64), scores=np.zeros((1, 3, 4), np.float32))
    error = refused(tmp_path / "x.npz")
    assert error.code == "E0208"
    assert "axis of samples" in error.fix


def test_labels_go_with_their_samples_and_are_no_input(tmp_path: Path) -> None:
    many = text_sample(6, batch=4)
    labels = np.arange(8).reshape(8, 1)
    savez(tmp_path / "one.npz", **many, labels=labels)
    found = calibration_set(tmp_path / "one.npz", TEXT)
    same(found, [{name: array[i : i + 1] for name, array in many.items()} for i in range(4)])
    for i, (_, have) in enumerate(found.labelled()):
        np.testing.assert_array_equal(have, labels[2 * i : 2 * i + 2])
    (pair,) = calibration_set([text_sample(2) | {"labels": np.array(3)}], TEXT).labelled()
    assert pair[1] == 3
    (pair,) = calibration_set([text_sample(2)], TEXT).labelled()
    assert pair[1] is None
    savez(tmp_path / "few.npz", **many, labels=labels[:7])
    assert refused(tmp_path / "few.npz").code == "E0208"


def test_an_input_may_be_called_labels() -> None:
    sample = {"labels": np.zeros((2, 3), np.float32)}
    ((inputs, labels),) = calibration_set([sample], taking(labels="f32 2, 3")).labelled()
    assert list(inputs) == ["labels"]
    assert labels is None


def test_messages_name_what_the_data_is_for() -> None:
    with pytest.raises(CompileError, match="the evaluation data holds no samples"):
        list(calibration_set([], TEXT, name="evaluation data"))
