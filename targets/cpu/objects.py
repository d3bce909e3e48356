"""Object files of sources that every model shares, kept between compilations.

The runtime's C files are the same for every model, and compiling them takes longer than the
kernels of a small one. An object is kept under the digest of all that decides its bytes: the
source, the headers, the flags and the compiler. The folder is ``$TAPEOUT_CACHE/objects``
(``~/.cache/tapeout/objects``); where it cannot be written, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path


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
    for header in sorted(n for n in everything if n.endswith(".h") and n != "model.h"):
        found.update(header.encode() + b"\0" + hashlib.sha256(everything[header]).digest())
    found.update(hashlib.sha256(everything[name]).digest())
    return found.hexdigest()


def find(key: str, target: Path) -> bool:
    """Put the object of ``key`` at ``target``; False when there is none."""
    try:
        target.write_bytes((folder() / f"{key}.o").read_bytes())
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
