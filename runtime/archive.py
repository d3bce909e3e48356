"""Read artifacts, zip or folder: checked names, checked hashes, ranges of files to be mapped."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tapeout.runtime.digest import sha256
from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import NAME, Manifest
from tapeout.runtime.zipindex import damaged, read_index, unsafe

MAX_MANIFEST = 64 << 20
MAX_NAME = 200
HASH_CHUNK = 4 << 20


class Place(NamedTuple):
    """``bytes`` bytes from ``offset`` of the open ``file`` (a descriptor)."""

    file: int
    offset: int
    bytes: int


class Archive:
    """An open artifact. Descriptors stay open, so what was verified is what is mapped."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it and read its manifest; E0501 to E0504 when it is not sound."""
        self.path = os.fspath(path)
        self._files: list[int] = []
        self.places: dict[str, Place] = {}
        try:
            self.manifest = self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every descriptor; mappings made from them stay."""
        while self._files:
            os.close(self._files.pop())

    def read(self, name: str) -> bytes:
        """Return one file; it is not verified here."""
        place = self.places[name]
        data = os.pread(place.file, place.bytes, place.offset)
        while len(data) < place.bytes:  # one call returns 2 GiB at most
            more = os.pread(place.file, place.bytes - len(data), place.offset + len(data))
            if not more:
                raise damaged(self.path, f"'{name}' is cut off")
            data += more
        return data

    def read_verified(self, name: str) -> bytes:
        """Return one file, which was compared with its SHA-256; E0503 when it differs."""
        data = self.read(name)
        self._compare(name, sha256([data], len(data)))
        return data

    def verify(self, names: Iterable[str]) -> None:
        """Compare files with their SHA-256; E0503 when one differs."""
        for name in names:
            place = self.places[name]
            self._compare(name, sha256(self._pieces(place), place.bytes))

    def compare_checksum(self, name: str, found: int) -> None:
        """Compare a checksum of one file with the manifest; E0503 when it differs."""
        expected = self.manifest.files[name].checksum
        if f"{found:016x}" != expected:
            raise changed(self.path, name, "checksum", expected, f"{found:016x}")

    def _compare(self, name: str, found: str) -> None:
        expected = self.manifest.files[name].sha256
        if found != expected:
            raise changed(self.path, name, "SHA-256", expected, found)

    def _pieces(self, place: Place) -> Iterator[bytes]:
        for start in range(0, place.bytes, HASH_CHUNK):
            length = min(HASH_CHUNK, place.bytes - start)
            yield os.pread(place.file, length, place.offset + start)

    def _open(self) -> Manifest:
        root = self._open_file(self.path)
        if stat.S_ISDIR(os.fstat(root).st_mode):
            manifest = self._open_folder(root)
        else:
            manifest = self._open_zip(root)
        for name, file in manifest.files.items():
            if self.places[name].bytes != file.bytes:
                found = self.places[name].bytes
                raise changed(self.path, name, "bytes", file.bytes, found)
        return manifest

    def _open_file(self, path: str, root: int | None = None, flags: int = 0) -> int:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=root)
        except (OSError, ValueError) as error:
            facts = (("file", path), ("why", getattr(error, "strerror", None) or error))
            raise RunError("E0501", "the artifact cannot be opened", facts) from None
        self._files.append(file)
        return file

    def _open_zip(self, file: int) -> Manifest:
        entries = read_index(file, self.path)
        for entry in entries:
            check_name(entry.name, self.path)
            if entry.name in self.places:
                raise unsafe(self.path, entry.name, "it is there twice")
            self.places[entry.name] = Place(file, entry.offset, entry.bytes)
        manifest = self._read_manifest()
        listed = {NAME, *manifest.files}
        if listed != self.places.keys():
            odd = sorted(listed ^ self.places.keys())[0]
            raise changed(self.path, odd, "present", odd in listed, odd in self.places)
        return manifest

    def _open_folder(self, root: int) -> Manifest:
        self._place_file(root, NAME)
        manifest = self._read_manifest()
        for name in manifest.files:
            check_name(name, self.path)
            self._place_file(root, name)
        return manifest

    def _place_file(self, root: int, name: str) -> None:
        """Open a file of a folder one step at a time, so that no link leads out of it."""
        *folders, last = name.split("/")
        for folder in folders:
            root = self._open_file(folder, root, os.O_NOFOLLOW | os.O_DIRECTORY)
        file = self._open_file(last, root, os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise unsafe(self.path, name, "it is not a regular file")
        self.places[name] = Place(file, 0, status.st_size)

    def _read_manifest(self) -> Manifest:
        place = self.places.get(NAME)
        if place is None or place.bytes > MAX_MANIFEST:
            raise damaged(self.path, "it has no manifest")
        return Manifest.from_json(self.read(NAME))


def check_name(name: str, path: str = "") -> None:
    """Refuse a name that could lead out of the artifact or mean two things; E0504."""
    parts = name.split("/")
    plain = name.isascii() and name.isprintable() and not set(name) & set('\\:*?"<>|')
    if not plain or len(name) > MAX_NAME or any(part in ("", ".", "..") for part in parts):
        raise unsafe(path, name, "its name is not a plain relative path")


def changed(path: str, name: str, what: str, expected: object, found: object) -> RunError:
    """E0503: a file is not what the manifest says."""
    return RunError(
        "E0503",
        "the artifact is not what its manifest says",
        (("file", path), ("entry", name), ("of", what), ("expected", expected), ("got", found)),
        "copy the artifact again, or compile the model again",
    )
