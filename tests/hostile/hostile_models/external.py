"""External data that leaves the model's folder, or is not there."""

import os
from pathlib import Path

from onnx import StringStringEntryProto, TensorProto

from .base import AT_LOAD, F32, hostile, model, save

_SECRET = b"top secret bytes"


def _external(folder: Path, location: str, **entries: str) -> Path:
    weight = TensorProto(name="w", data_type=F32, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        weight.external_data.append(StringStringEntryProto(key=key, value=text))
    return save(folder, model(constants=[weight]))


def _inner(folder: Path) -> Path:
    """Put a secret beside the model's folder and return the folder."""
    (folder / "secret.bin").write_bytes(_SECRET)
    inner = folder / "model"
    inner.mkdir()
    return inner


@hostile(AT_LOAD, "E0308", says=["leaves the model's folder", "'../secret.bin'"])
def external_data_above_the_folder(folder: Path) -> Path:
    return _external(_inner(folder), "../secret.bin")


@hostile(AT_LOAD, "E0308", says=["leaves the model's folder"])
def external_data_above_the_folder_by_a_detour(folder: Path) -> Path:
    inner = _inner(folder)
    (inner / "sub").mkdir()
    return _external(inner, "sub/../../secret.bin")


@hostile(AT_LOAD, "E0308", says=["leaves the model's folder"])
def external_data_with_backslashes(folder: Path) -> Path:
    return _external(_inner(folder), "..\\secret.bin")


@hostile(AT_LOAD, "E0308", says=["leaves the model's folder"])
def external_data_at_an_absolute_path(folder: Path) -> Path:
    inner = _inner(folder)
    return _external(inner, str(folder / "secret.bin"))


@hostile(AT_LOAD, "E0308", says=["link"])
def external_data_behind_a_symbolic_link(folder: Path) -> Path:
    inner = _inner(folder)
    (inner / "weights.bin").symlink_to(folder / "secret.bin")
    return _external(inner, "weights.bin")


@hostile(AT_LOAD, "E0308", says=["link"])
def external_data_behind_a_linked_folder(folder: Path) -> Path:
    inner = _inner(folder)
    (inner / "sub").symlink_to(folder, target_is_directory=True)
    return _external(inner, "sub/secret.bin")


@hostile(AT_LOAD, "E0308", says=["2 hard links"])
def external_data_behind_a_hard_link(folder: Path) -> Path:
    inner = _inner(folder)
    os.link(folder / "secret.bin", inner / "weights.bin")
    return _external(inner, "weights.bin")


@hostile(AT_LOAD, "E0308", says=["not a regular file"])
def external_data_in_a_named_pipe(folder: Path) -> Path:
    """Opening it to read would wait for a writer for ever."""
    os.mkfifo(folder / "pipe")
    return _external(folder, "pipe")


@hostile(AT_LOAD, "E0308", says=["not a regular file"])
def external_data_that_is_a_folder(folder: Path) -> Path:
    (folder / "weights.bin").mkdir()
    return _external(folder, "weights.bin")


@hostile(AT_LOAD, "E0308", says=["No such file"])
def external_data_that_is_missing(folder: Path) -> Path:
    return _external(folder, "weights.bin")


@hostile(AT_LOAD, "E0308", says=["names no file"])
def external_data_without_a_location(folder: Path) -> Path:
    return _external(folder, "")


@hostile(AT_LOAD, "E0308", says=["outside the file's 15"])
def external_data_too_short(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(bytes(15))
    return _external(folder, "weights.bin")


@hostile(AT_LOAD, "E0308", says=["outside the file's 16"])
def external_data_with_an_offset_past_the_end(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(bytes(16))
    return _external(folder, "weights.bin", offset=str(2**62))


@hostile(AT_LOAD, "E0308", says=["'-16'"])
def external_data_with_a_negative_offset(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(bytes(64))
    return _external(folder, "weights.bin", offset="-16")


@hostile(AT_LOAD, "E0308", says=["its length is 8"])
def external_data_with_a_length_that_is_not_its_shape_s(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(bytes(64))
    return _external(folder, "weights.bin", length="8")


@hostile(AT_LOAD, "E0308", says=["'9999"])
def external_data_with_a_length_of_thousands_of_digits(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(bytes(64))
    return _external(folder, "weights.bin", length="9" * 5000)


@hostile(AT_LOAD, "E0308", says=["names no file"])
def external_data_with_a_zero_byte_in_its_location(folder: Path) -> Path:
    return _external(folder, "weights.bin\0.txt")
