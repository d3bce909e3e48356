"""Lossless encodings of sparse matrices ``[N, K]`` of any number type, with their exact meaning.

What is not zero comes back bit for bit; a negative zero may lose its sign. An encoding holds
plain arrays, which a pass puts into the graph as tensors; :func:`packed` is for indices of less
than a byte. A matrix that does not have the pattern is a fault of the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.passes.sparsify.detect import block_any, most_in_group
from tapeout.passes.sparsify.patterns import NM, Blocks

Array = np.ndarray[Any, Any]
Shape = tuple[int, int]


@dataclass(frozen=True, eq=False, slots=True)
class NMEncoded:
    """``values [N, G, n]`` and the place of each in its group of m, ``indices [N, G, n]`` u8.

    Indices rise within a group. A group of fewer than n values is filled with zeros at other
    places. ``G = ceil(K / m)``: the last group may reach beyond K, with zeros only.
    """

    pattern: NM
    shape: Shape
    values: Array
    indices: Array

    @property
    def bytes(self) -> int:
        """The bytes of values and packed indices."""
        return self.values.nbytes + -(-self.indices.size * self.pattern.index_bits // 8)

    def decoded(self) -> Array:
        """The matrix ``[N, K]``."""
        n, k = self.shape
        count, m = self.values.shape[1], self.pattern.m
        groups = np.zeros((n, count, m), self.values.dtype)
        np.put_along_axis(groups, self.indices.astype(np.int64), self.values, axis=-1)
        return np.ascontiguousarray(groups.reshape(n, count * m)[:, :k])


def encode_nm(matrix: Array, pattern: NM) -> NMEncoded:
    """``matrix [N, K]``, which has the pattern, as values and their places."""
    n, k = matrix.shape
    some = matrix != 0
    full = most_in_group(some, pattern.m) if some.size else 0
    assert full <= pattern.n, f"a group has {full} values, which is not {pattern}"
    padded = np.pad(matrix, ((0, 0), (0, -k % pattern.m)))
    groups = padded.reshape(n, -(-k // pattern.m), pattern.m)
    # A stable sort of "is zero" puts the values first, in order, and then the first zeros.
    chosen = np.argsort(groups == 0, axis=-1, kind="stable")[..., : pattern.n]
    places = np.sort(chosen, axis=-1)
    values = np.take_along_axis(groups, places, axis=-1)
    return NMEncoded(pattern, (n, k), values, places.astype(np.uint8))


@dataclass(frozen=True, eq=False, slots=True)
class BlockEncoded:
    """Blocks of ``rows`` outputs by one input that are not zero, stripe after stripe.

    Stripe s, of the outputs ``s * rows`` on, has the blocks ``starts[s]`` to ``starts[s + 1]``:
    ``columns`` (i32, rising within a stripe) are their inputs, ``values [blocks, rows]`` their
    weights. In the last stripe, rows beyond N are zero. A stripe whose blocks are no multiple of
    ``group`` ends in blocks of zeros, of column 0.
    """

    pattern: Blocks
    shape: Shape
    starts: Array
    columns: Array
    values: Array
    group: int = 1

    @property
    def bytes(self) -> int:
        """The bytes of all three arrays."""
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    def decoded(self) -> Array:
        """The matrix ``[N, K]``."""
        n, k = self.shape
        stripes = len(self.starts) - 1
        matrix = np.zeros((stripes, k, self.pattern.rows), self.values.dtype)
        some = self.values.any(axis=1)
        matrix[_owners(self.starts)[some], self.columns[some]] = self.values[some]
        rows = matrix.transpose(0, 2, 1).reshape(stripes * self.pattern.rows, k)
        return np.ascontiguousarray(rows[:n])


def encode_blocks(matrix: Array, pattern: Blocks | None = None, group: int = 1) -> BlockEncoded:
    """``matrix [N, K]`` as its blocks that are not zero; it may have any zeros, or none.

    Stripes are filled up to a multiple of ``group`` blocks, which kernels take together.
    """
    pattern = pattern or Blocks()
    n, k = matrix.shape
    stripes = -(-n // pattern.rows)
    some = block_any(matrix != 0, pattern.rows)
    padded = np.pad(matrix, ((0, stripes * pattern.rows - n), (0, 0)))
    blocks = padded.reshape(stripes, pattern.rows, k).transpose(0, 2, 1)
    stripe, column = np.nonzero(some)
    starts = _starts(np.count_nonzero(some, axis=1), group)
    place = starts[stripe] + _within(stripe)
    columns = np.zeros(starts[-1], np.int32)
    values = np.zeros((starts[-1], pattern.rows), matrix.dtype)
    columns[place], values[place] = column, blocks[stripe, column]
    return BlockEncoded(pattern, (n, k), starts, columns, values, group)


@dataclass(frozen=True, eq=False, slots=True)
class RowEncoded:
    """Compressed rows: row r has the ``values`` and ``columns`` ``starts[r]`` to ``starts[r + 1]``.

    Columns are i32 and rise within a row.
    """

    shape: Shape
    starts: Array
    columns: Array
    values: Array

    @property
    def bytes(self) -> int:
        """The bytes of all three arrays."""
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    def decoded(self) -> Array:
        """The matrix ``[N, K]``."""
        matrix = np.zeros(self.shape, self.values.dtype)
        matrix[_owners(self.starts), self.columns] = self.values
        return matrix


def encode_rows(matrix: Array) -> RowEncoded:
    """``matrix [N, K]`` as its numbers that are not zero; it may have any zeros, or none."""
    some = matrix != 0
    row, column = np.nonzero(some)
    n, k = matrix.shape
    starts = _starts(np.count_nonzero(some, axis=1))
    return RowEncoded((n, k), starts, column.astype(np.int32), matrix[row, column])


def _starts(counts: Array, group: int = 1) -> Array:
    """Where each row starts in the list of all, and after the last: i32, multiples of ``group``."""
    filled = -(-counts // group) * group
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(filled, dtype=np.int64)])
    assert ends[-1] < 2**31, "positions are of 32 bits"
    return ends.astype(np.int32)


def _within(owner: Array) -> Array:
    """The number of each element among those of its owner; owners rise."""
    return np.arange(len(owner)) - np.searchsorted(owner, owner)


def _owners(starts: Array) -> Array:
    """The row of each element, from where the rows start."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def packed(indices: Array, bits: int) -> Array:
    """Unsigned ``indices`` of ``bits`` bits each as a stream of bytes, lowest bits first."""
    assert not indices.size or int(indices.max()) < 1 << bits, f"an index is beyond {bits} bits"
    every = np.unpackbits(indices.astype(np.uint8).reshape(-1, 1), axis=1, bitorder="little")
    return np.packbits(every[:, :bits].reshape(-1), bitorder="little")


def unpacked(stream: Array, bits: int, count: int) -> Array:
    """The first ``count`` indices of a stream of :func:`packed`: u8 ``[count]``."""
    every = np.unpackbits(stream, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(every, axis=1, bitorder="little").reshape(-1)
