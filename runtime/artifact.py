"""Write artifacts: one zip with stored, aligned entries, or a folder with the same files.

Bytes are a function of what is written: fixed times and modes, sorted names. Entries start on
64 bytes, ``weights.bin`` on a page or, when large, on a huge page, so that they can be mapped
straight from the zip.
"""

import hashlib
import os
import struct
import zipfile
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal

from tapeout.runtime.archive import check_name
from tapeout.runtime.checksum import checksum
from tapeout.runtime.manifest import (
    DTYPES,
    NAME,
    WEIGHTS,
    Accuracy,
    Code,
    File,
    Kernel,
    Manifest,
    Need,
    Port,
    State,
    Symbol,
)

__all__ = [
    "DTYPES",
    "WEIGHTS",
    "Accuracy",
    "Code",
    "File",
    "Kernel",
    "Manifest",
    "Need",
    "Port",
    "State",
    "Symbol",
    "c_sources",
    "write",
]

Content = bytes | memoryview | Path
ALIGN = 64
PAGE = 4096
HUGE_PAGE = 2 << 20
LARGE = 32 << 20
"""Weights from which on up to 2 MB of padding are a small price for huge pages."""
PADDING_ID = 0xD935
"""Android's extra field for alignment: other zip readers know to skip it."""
EPOCH = (1980, 1, 1, 0, 0, 0)
LOCAL_HEADER_BYTES = 30
ZIP64_EXTRA_BYTES = 20
EXTRA_HEADER_BYTES = 6


def c_sources(memory: str = "") -> dict[str, bytes]:
    """Return the C runtime: every file that is compiled with a program, by name.

    ``memory`` names a folder of it (``cuda``) for programs whose buffers lie in a device's memory:
    its files come in, and take the place of those of their names.
    """
    folders = [
        Path(__file__).parent / "c",
        *([Path(__file__).parent / "c" / memory] * bool(memory)),
    ]
    found = [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix in (".c", ".h")]
    return {p.name: p.read_bytes() for p in found}


def write(
    path: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, Content],
    format: Literal["file", "dir"] = "file",
) -> Manifest:
    """Write an artifact, and return its manifest with ``files`` filled in.

    ``files`` are named relative to the artifact (``cpu/avx512.so``); weights are ``weights.bin``.
    A file artifact appears whole or not at all. A folder is made if need be; files in it that
    have other names stay.
    """
    for name in files:
        check_name(name)
    assert NAME not in files, "the manifest is written by this function"
    views = {name: _view(files[name]) for name in sorted(files)}
    full = manifest._replace(files={name: _describe(v) for name, v in views.items()})
    contents = {NAME: memoryview(full.to_json()), **views}
    if format == "dir":
        _write_folder(Path(path), contents)
    else:
        _write_zip(Path(path), contents)
    return full


def _view(content: Content) -> memoryview:
    if not isinstance(content, Path):
        return memoryview(content).cast("B")
    if content.stat().st_size == 0:
        return memoryview(b"")
    with content.open("rb") as file:
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))


def _describe(data: memoryview) -> File:
    digest = hashlib.sha256(data).hexdigest()
    return File(len(data), digest, f"{checksum(data):016x}")


def _write_folder(folder: Path, contents: Mapping[str, memoryview]) -> None:
    for name, data in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _write_zip(path: Path, contents: Mapping[str, memoryview]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, data in contents.items():
                _add(archive, name, data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, data: memoryview) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # Unix, whatever the writer runs on
    info.external_attr = 0o644 << 16
    info.file_size = len(data)
    assert archive.fp is not None, "the archive is open"
    # zipfile adds its own extra field to the local header of an entry that may pass 2 GiB.
    large = info.file_size * 1.05 > zipfile.ZIP64_LIMIT
    fixed = LOCAL_HEADER_BYTES + len(name) + (ZIP64_EXTRA_BYTES if large else 0)
    at = archive.fp.tell()
    align = _alignment(name, len(data))
    # An extra field holds 64 KiB at most: the rest of a long way is a gap before the entry, which
    # zip allows. `start_dir` is where zipfile writes next.
    gap = -(at + fixed + EXTRA_HEADER_BYTES) % align // PAGE * PAGE
    archive.start_dir = at + gap
    info.extra = _padding(at + gap + fixed, align)
    with archive.open(info, "w") as entry:
        entry.write(data)
    info.extra = b""  # the central directory needs no padding


def _alignment(name: str, size: int) -> int:
    if name != WEIGHTS:
        return ALIGN
    return HUGE_PAGE if size >= LARGE else PAGE


def _padding(position: int, align: int) -> bytes:
    """An extra field after which ``position`` stands on ``align``; 6 bytes at least."""
    body = (-(position + EXTRA_HEADER_BYTES)) % align
    return struct.pack("<HHH", PADDING_ID, 2 + body, align & 0xFFFF) + bytes(body)
