"""Object files of the runtime and of kernels, kept between compilations.

The runtime's C files are the same for every model, and so are the kernels of a model that is
compiled again with other weights or options. An object is kept under the digest of all that decides
its bytes: the source, the headers, the flags and the compiler. The folder is
``$TAPEOUT_CACHE/objects`` (``~/.cache/tapeout/objects``); where it cannot be written, nothing is
kept. What was not used for longest goes when there is more than ``MOST_BYTES``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

MOST_BYTES = 512 << 20
"""Of all objects: some ten thousand kernels."""


def folder() -> Path:
    """Where objects are kept."""
    base = os.environ.get("TAPEOUT_CACHE")
    return (Path(base) if base else Path.home() / ".cache" / "tapeout") / "objects"


def digest(name: str, everything: Mapping[str, bytes], command: Sequence[str]) -> str:
    """What decides the object of ``name``: its text, every header, and the compiler's command."""
    found = hashlib.sha256()
    program = Path(shutil.which(command[0]) or command[0]).resolve()
    state = program.stat()
    for part in (str(program), str(state.st_size), str(state.st_mtime_ns), *command[1:]):
        found.update(part.encode() + b"\0")
    for header in sorted(n for n in everything if n.endswith(".h")):
        found.update(header.encode() + b"\0" + hashlib.sha256(everything[header]).digest())
    found.update(hashlib.sha256(everything[name]).digest())
    return found.hexdigest()


def find(key: str, target: Path) -> bool:
    """Put the object of ``key`` at ``target``; False when there is none."""
    kept = folder() / f"{key}.o"
    try:
        target.write_bytes(kept.read_bytes())
        os.utime(kept)
    except OSError:
        return False
    return True


def keep(key: str, made: Path) -> None:
    """Keep an object; it appears whole or not at all."""
    partial = folder() / f".{key}.{os.getpid()}"
    try:
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.write_bytes(made.read_bytes())
        os.replace(partial, folder() / f"{key}.o")
    except OSError:
        partial.unlink(missing_ok=True)


def trim() -> None:
    """Drop what was not used for longest until the rest is within ``MOST_BYTES``."""
    found: list[tuple[float, int, Path]] = []
    for path in folder().glob("*.o"):
        try:
            state = path.stat()
        except OSError:
            continue  # another process has dropped it
        found.append((state.st_mtime, state.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if left <= MOST_BYTES:
            break
        path.unlink(missing_ok=True)
        left -= size
