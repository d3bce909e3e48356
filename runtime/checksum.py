"""The checksum of ``weights.bin``, as ``c/checksum.c`` computes it at load: see there."""

import numpy as np
from numpy.typing import NDArray

CHUNK_WORDS = 2048
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
BLOCK_CHUNKS = 256


def checksum(data: bytes | memoryview) -> int:
    """Return the 64-bit checksum of ``data``; the compiler writes it into the manifest."""
    view = memoryview(data).cast("B")
    keys = _mix((np.arange(CHUNK_WORDS, dtype=np.uint64) + np.uint64(1)) * GOLDEN) | np.uint64(1)
    step = BLOCK_CHUNKS * CHUNK_WORDS * 4
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for block, start in enumerate(range(0, len(view), step)):
            words = _words(view[start : start + step])
            sums = (words.astype(np.uint64) * keys).sum(axis=1, dtype=np.uint64)
            places = np.arange(1, len(sums) + 1, dtype=np.uint64) + np.uint64(block * BLOCK_CHUNKS)
            total += _mix(sums + places * GOLDEN).sum(dtype=np.uint64)
    return int(total)


def _words(data: memoryview) -> NDArray[np.uint32]:
    """``data`` as ``[chunk, CHUNK_WORDS]`` little-endian words, filled up with zeros."""
    missing = -len(data) % (CHUNK_WORDS * 4)
    filled = data if not missing else bytes(data) + bytes(missing)
    return np.frombuffer(filled, dtype="<u4").reshape(-1, CHUNK_WORDS)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
