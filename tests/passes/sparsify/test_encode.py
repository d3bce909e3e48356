"""Encodings: every number comes back, whatever the shape, the type and the zeros."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tapeout.passes.sparsify.encode import (
    encode_blocks,
    encode_nm,
    encode_rows,
    packed,
    unpacked,
)
from tapeout.passes.sparsify.masks import mask
from tapeout.passes.sparsify.patterns import NM, Blocks, Sparsity, Unstructured

Array = np.ndarray[Any, Any]

SEEDS = range(20)
TYPES = (np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, ml_dtypes.int4)


def drawn(seed: int) -> Array:
    """A matrix of any shape and type, without zeros."""
    random = np.random.default_rng(seed)
    n, k = (int(size) for size in random.integers(1, (40, 120)))
    return random.integers(1, 8, (n, k)).astype(TYPES[seed % len(TYPES)])


def pruned(seed: int, sparsity: Sparsity) -> Array:
    matrix = drawn(seed)
    kept = mask(matrix.astype(np.float32), sparsity)
    return np.where(kept, matrix, np.zeros((), matrix.dtype))


def same(have: Array, want: Array) -> None:
    assert have.dtype == want.dtype
    np.testing.assert_array_equal(have.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(4, 16), NM(2, 3), NM(5, 7)], ids=str)
def test_n_of_m_comes_back(seed: int, pattern: NM):
    matrix = pruned(seed, Sparsity(pattern, 0.5))
    made = encode_nm(matrix, pattern)
    groups = -(-matrix.shape[1] // pattern.m)
    assert made.values.shape == made.indices.shape == (len(matrix), groups, pattern.n)
    assert (np.diff(made.indices.astype(np.int32), axis=-1) > 0).all()
    assert made.indices.max(initial=0) < pattern.m
    same(made.decoded(), matrix)
    stream = packed(made.indices, pattern.index_bits)
    assert made.bytes == made.values.nbytes + len(stream)
    back = unpacked(stream, pattern.index_bits, made.indices.size)
    np.testing.assert_array_equal(back.reshape(made.indices.shape), made.indices)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("zeros", [0.05, 0.5, 0.8, 0.999])
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_blocks_come_back(seed: int, zeros: float, rows: int):
    matrix = pruned(seed, Sparsity(Blocks(rows), zeros))
    made = encode_blocks(matrix, Blocks(rows))
    stripes = -(-len(matrix) // rows)
    total = stripes * matrix.shape[1]
    assert made.starts.shape == (stripes + 1,)
    assert made.values.shape == (total - round(zeros * total), rows)
    assert (made.values != 0).any(axis=1).all()
    same(made.decoded(), matrix)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("zeros", [0.05, 0.5, 0.9, 0.999])
def test_rows_come_back(seed: int, zeros: float):
    matrix = pruned(seed, Sparsity(Unstructured(), zeros))
    made = encode_rows(matrix)
    assert len(made.values) == matrix.size - round(zeros * matrix.size)
    same(made.decoded(), matrix)
    for start, stop in zip(made.starts[:-1], made.starts[1:], strict=True):
        assert (np.diff(made.columns[start:stop]) > 0).all()


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (0, 0), (1, 1), (5, 3)])
@pytest.mark.parametrize("value", [0.0, -2.5])
def test_empty_full_and_zero_matrices_come_back(shape: tuple[int, int], value: float):
    matrix = np.full(shape, value, np.float32)
    same(encode_blocks(matrix).decoded(), matrix)
    same(encode_rows(matrix).decoded(), matrix)
    if value == 0:
        same(encode_nm(matrix, NM(2, 4)).decoded(), matrix)


def test_numbers_that_are_none_come_back():
    matrix = np.array([[np.nan, 0, 0, -np.inf, 0], [0, 1e-45, 0, 0, np.inf]], np.float32)
    for made in (encode_nm(matrix, NM(2, 4)), encode_blocks(matrix), encode_rows(matrix)):
        same(made.decoded(), matrix)


def test_layouts_are_what_a_kernel_reads():
    matrix = np.zeros((5, 6), np.int8)
    matrix[0, 4], matrix[2, 4], matrix[3, 1], matrix[4, 0] = 1, 2, 3, 4
    made = encode_blocks(matrix)
    np.testing.assert_array_equal(made.starts, [0, 2, 3])
    np.testing.assert_array_equal(made.columns, [1, 4, 0])
    np.testing.assert_array_equal(made.values, [[0, 0, 0, 3], [1, 0, 2, 0], [4, 0, 0, 0]])
    assert made.bytes == 3 * 4 + 3 * 4 + 3 * 4
    rows = encode_rows(matrix)
    np.testing.assert_array_equal(rows.starts, [0, 1, 1, 2, 3, 4])
    np.testing.assert_array_equal(rows.columns, [4, 4, 1, 0])
    groups = encode_nm(matrix, NM(2, 4))
    np.testing.assert_array_equal(groups.values[0], [[0, 0], [1, 0]])
    np.testing.assert_array_equal(groups.indices[3], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(groups.values[3], [[0, 3], [0, 0]])
    assert groups.bytes == 20 + 5


def test_a_matrix_without_the_pattern_is_a_fault():
    with pytest.raises(AssertionError, match="a group has 3 values, which is not 2:4"):
        encode_nm(np.array([[0, 1, 1, 1, 1, 0, 0, 0]]), NM(2, 4))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("seed", range(5))
def test_packed_indices_come_back(bits: int, seed: int):
    random = np.random.default_rng(seed)
    indices = random.integers(0, 1 << bits, int(random.integers(0, 100))).astype(np.uint8)
    stream = packed(indices, bits)
    assert len(stream) == -(-len(indices) * bits // 8)
    np.testing.assert_array_equal(unpacked(stream, bits, len(indices)), indices)


def test_an_index_of_too_many_bits_is_a_fault():
    with pytest.raises(AssertionError, match="beyond 2 bits"):
        packed(np.array([1, 4]), 2)
