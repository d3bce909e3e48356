"""Where the entries of an artifact's zip lie: a strict reader of what ``artifact.write`` writes.

It reads the central directory by itself, for two reasons: the standard library's reader takes
milliseconds to import, and it accepts what an artifact never is (compressed, overlapping,
duplicate entries). Nothing is unpacked; ranges of the file come back.
"""

import os
import struct
from typing import NamedTuple

from tapeout.runtime.errors import RunError

END = struct.Struct("<4s4H2IH")
END64_LOCATOR = struct.Struct("<4sIQI")
END64 = struct.Struct("<4sQ2H2I4Q")
CENTRAL = struct.Struct("<4s6H3I5H2I")
LOCAL = struct.Struct("<4s5H3I2H")
NO_U32 = 0xFFFFFFFF
MAX_ENTRIES = 4096
MAX_DIRECTORY = 4 << 20


class Entry(NamedTuple):
    """One stored file: its bytes are ``[offset, offset + bytes)`` of the zip."""

    name: str
    offset: int
    bytes: int


def read_index(file: int, path: str) -> list[Entry]:
    """Return the entries of the open zip ``file``; E0501 or E0504 when it is not sound."""
    size = os.fstat(file).st_size
    start, length, count = _end(file, size, path)
    if count > MAX_ENTRIES or length > MAX_DIRECTORY or start + length > size:
        raise damaged(path, "its directory does not fit into it")
    directory = _read(file, length, start, path)
    entries: list[Entry] = []
    at = 0
    for _ in range(count):
        entry, at = _entry(file, directory, at, path)
        entries.append(entry)
    _check_apart(entries, start, path)
    return entries


def _end(file: int, size: int, path: str) -> tuple[int, int, int]:
    """Start, length and number of entries of the central directory."""
    if size < END.size:
        raise damaged(path, "it is shorter than an empty artifact")
    mark, *_, count, length, start, comment = END.unpack(
        _read(file, END.size, size - END.size, path)
    )
    if mark != b"PK\5\6" or comment:
        raise damaged(path, "it does not end as an artifact does")
    locator_at = size - END.size - END64_LOCATOR.size
    if locator_at < 0:
        return start, length, count
    mark, _, end64_at, _ = END64_LOCATOR.unpack(_read(file, END64_LOCATOR.size, locator_at, path))
    if mark != b"PK\6\7":
        return start, length, count
    if end64_at + END64.size > locator_at:
        raise damaged(path, "its directory does not fit into it")
    mark, *_, count, length, start = END64.unpack(_read(file, END64.size, end64_at, path))
    if mark != b"PK\6\6":
        raise damaged(path, "its directory does not fit into it")
    return start, length, count


def _entry(file: int, directory: bytes, at: int, path: str) -> tuple[Entry, int]:
    """The entry at ``at`` of the central directory, and where the next one starts."""
    if at + CENTRAL.size > len(directory):
        raise damaged(path, "its directory is cut off")
    fields = CENTRAL.unpack_from(directory, at)
    mark, flags, method = fields[0], fields[3], fields[4]
    packed, size, name_bytes, extra_bytes, comment_bytes = fields[8:13]
    header = fields[16]
    name_at = at + CENTRAL.size
    extra_at = name_at + name_bytes
    end = extra_at + extra_bytes + comment_bytes
    if mark != b"PK\1\2" or end > len(directory):
        raise damaged(path, "its directory is cut off")
    name = directory[name_at:extra_at].decode("ascii", "backslashreplace")
    if NO_U32 in (packed, size, header):
        wide = _zip64(directory[extra_at : extra_at + extra_bytes], (size, packed, header))
        if wide is None:
            raise damaged(path, "a large entry has no size")
        size, packed, header = wide
    if method != 0 or flags & ~0x800 or packed != size:
        raise unsafe(path, name, "it is compressed or encrypted")
    return Entry(name, _data_offset(file, header, name_bytes, name, path), size), end


def _zip64(extra: bytes, narrow: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Replace each field that is all ones by its 64-bit form, in order, from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            need = [i for i, value in enumerate(narrow) if value == NO_U32]
            if length < 8 * len(need) or at + 4 + length > len(extra):
                return None
            wide = list(narrow)
            for k, i in enumerate(need):
                (wide[i],) = struct.unpack_from("<Q", extra, at + 4 + 8 * k)
            return wide[0], wide[1], wide[2]
        at += 4 + length
    return None


def _data_offset(file: int, header: int, name_bytes: int, name: str, path: str) -> int:
    """Where the entry's bytes start; its local header must carry the same name."""
    raw = os.pread(file, LOCAL.size + name_bytes, header)
    if len(raw) < LOCAL.size + name_bytes or raw[:4] != b"PK\3\4":
        raise damaged(path, "an entry has no header")
    *_, local_name_bytes, extra_bytes = LOCAL.unpack_from(raw)
    if local_name_bytes != name_bytes or raw[LOCAL.size :] != name.encode("ascii", "replace"):
        raise unsafe(path, name, "its two names differ")
    return header + LOCAL.size + name_bytes + extra_bytes


def _check_apart(entries: list[Entry], limit: int, path: str) -> None:
    """Entries lie before the directory, and no two overlap."""
    end = 0
    for entry in sorted(entries, key=lambda e: (e.offset, e.bytes)):
        if entry.offset < end:
            raise unsafe(path, entry.name, "it overlaps another entry")
        end = entry.offset + entry.bytes
        if end > limit:
            raise damaged(path, "an entry is cut off")


def _read(file: int, length: int, offset: int, path: str) -> bytes:
    data = os.pread(file, length, offset)
    if len(data) != length:
        raise damaged(path, "it is cut off")
    return data


def damaged(path: str, why: str) -> RunError:
    """E0501: not an artifact, or one that was cut off or damaged on its way."""
    return RunError(
        "E0501",
        "this file is not a whole artifact",
        (("file", path), ("why", why)),
        "copy it again, or compile the model again",
    )


def unsafe(path: str, name: str, why: str) -> RunError:
    """E0504: an entry that no artifact has; the file was made by something else."""
    return RunError(
        "E0504",
        "the artifact holds an entry that is not allowed",
        (("file", path), ("entry", name), ("why", why)),
        "compile the model again",
    )
