"""Masks: as many zeros as asked for, where the pattern has them, and what stays is the best."""

import itertools
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError
from tapeout.passes.sparsify.detect import detect
from tapeout.passes.sparsify.masks import blocks, mask, n_of_m, unstructured
from tapeout.passes.sparsify.patterns import NM, Blocks, Criterion, Sparsity, Unstructured

Array = np.ndarray[Any, Any]

SEEDS = range(20)
PATTERNS = (NM(2, 4), NM(1, 4), NM(4, 16), NM(3, 5), NM(1, 2), NM(8, 16))


def drawn(seed: int) -> tuple[Array, Array]:
    """A matrix of any shape, and mean squares of its inputs."""
    random = np.random.default_rng(seed)
    n, k = (int(size) for size in random.integers(1, (40, 120)))
    return random.standard_normal((n, k)).astype(np.float32), random.gamma(0.5, 1.0, k)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_n_of_m_keeps_the_n_best_of_every_group(seed: int, pattern: NM):
    weight, _ = drawn(seed)
    kept = mask(weight, Sparsity(pattern, 1 - pattern.n / pattern.m))
    for row, start in itertools.product(range(len(weight)), range(0, weight.shape[1], pattern.m)):
        sizes = np.abs(weight[row, start : start + pattern.m])
        stays = kept[row, start : start + pattern.m]
        assert stays.sum() == min(pattern.n, len(sizes))
        assert sizes[stays].min() >= sizes[~stays].max(initial=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.8, 0.99])
def test_blocks_of_least_norm_go(seed: int, zeros: float):
    weight, _ = drawn(seed)
    kept = mask(weight, Sparsity(Blocks(), zeros))
    norms: list[float] = []
    stays: list[bool] = []
    for row, k in itertools.product(range(0, len(weight), 4), range(weight.shape[1])):
        block = kept[row : row + 4, k]
        assert block.all() or not block.any()
        norms.append(float(np.linalg.norm(weight[row : row + 4, k].astype(np.float64))))
        stays.append(bool(block[0]))
    assert len(stays) - sum(stays) == round(zeros * len(stays))
    best = sorted(zip(norms, stays, strict=True), reverse=True)[: sum(stays)]
    assert sum(norm for norm, _ in best) == pytest.approx(
        sum(norm for norm, stay in zip(norms, stays, strict=True) if stay)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.9])
def test_unstructured_keeps_the_largest(seed: int, zeros: float):
    weight, _ = drawn(seed)
    kept = mask(weight, Sparsity(Unstructured(), zeros))
    assert (~kept).sum() == round(zeros * weight.size)
    sizes = np.abs(weight)
    assert sizes[kept].min(initial=np.inf) >= sizes[~kept].max(initial=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_saliency_compares_the_weights_of_one_output(seed: int):
    weight, mean_square = drawn(seed)
    kept = mask(weight, Sparsity(Unstructured(), 0.6, "saliency"), mean_square=mean_square)
    scores = np.abs(weight) * np.sqrt(mean_square)
    for row, stays in zip(scores, kept, strict=True):
        assert (~stays).sum() == round(0.6 * len(row))
        assert row[stays].min(initial=np.inf) >= row[~stays].max(initial=0) * (1 - 1e-6)


@pytest.mark.parametrize("pattern", [NM(2, 4), Blocks(), Unstructured()], ids=str)
def test_saliency_loses_less_of_the_output_than_magnitude(pattern: Any):
    random = np.random.default_rng(1)
    weight = random.standard_normal((32, 128)).astype(np.float32)
    inputs = random.standard_normal((500, 128)) * np.exp(1.5 * random.standard_normal(128))

    def lost(by: Criterion) -> float:
        square = np.square(inputs).mean(axis=0)
        kept = mask(weight, Sparsity(pattern, 0.5, by), mean_square=square)
        return float(np.linalg.norm(inputs @ np.where(kept, 0, weight).T))

    assert lost("saliency") < 0.8 * lost("magnitude")


@pytest.mark.parametrize("by", ["magnitude", "saliency"])
def test_masks_do_not_depend_on_the_scale_of_the_weights(by: Criterion):
    weight, mean_square = drawn(3)
    for pattern in (NM(2, 4), Blocks(), Unstructured()):
        masks = [
            mask(weight * np.float32(scale), Sparsity(pattern, 0.5, by), mean_square=mean_square)
            for scale in (2.0**-110, 1.0, 2.0**110)
        ]
        np.testing.assert_array_equal(masks[0], masks[1])
        np.testing.assert_array_equal(masks[0], masks[2])


def test_of_equal_weights_the_first_stay():
    even = np.ones((4, 8))
    np.testing.assert_array_equal(n_of_m(even, 1, 4)[0], [1, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(blocks(even, 0.5)[0], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(unstructured(even, 0.75).sum(axis=1), [8, 0, 0, 0])
    np.testing.assert_array_equal(unstructured(even, 0.75, by_row=True).sum(axis=1), [2] * 4)


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (1, 1), (0, 0)])
def test_matrices_without_elements_have_masks(shape: tuple[int, int]):
    for pattern in (NM(2, 4), Blocks(), Unstructured()):
        for by in ("magnitude", "saliency"):
            kept = mask(
                np.ones(shape, np.float32),
                Sparsity(pattern, 0.4, by),
                mean_square=np.ones(shape[1]),
            )
            assert kept.shape == shape
            assert kept.all()


def test_weights_that_are_no_numbers_are_refused_by_name():
    weight = np.array([[1.0, np.nan, 2.0, 3.0]])
    with pytest.raises(CompileError, match=r"E0701(.|\n)*layer\.up"):
        mask(weight, Sparsity(NM(2, 4), 0.5), name="layer.up")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pattern", PATTERNS[:3], ids=str)
def test_what_a_mask_leaves_is_found_again(seed: int, pattern: NM):
    weight = np.random.default_rng(seed).standard_normal((1 + seed, 16 + 3 * seed))
    found = detect(np.where(mask(weight, Sparsity(pattern, 0.5)), weight, 0))
    assert any(p.m == pattern.m and p.n <= pattern.n for p in found.nm)
    assert found.tightest is not None
    assert found.tightest.n / found.tightest.m <= pattern.n / pattern.m


def test_parts_of_zeros_are_counted():
    matrix = np.ones((6, 10), np.int8)
    matrix[:4, :5] = 0
    matrix[4:, 9] = 0
    found = detect(matrix)
    assert found.weights == pytest.approx(22 / 60)
    assert found.blocks == pytest.approx(6 / 20)
    assert found.nm == ()
    assert found.tightest is None


def test_a_full_matrix_and_an_empty_one_have_no_pattern():
    assert detect(np.ones((8, 64), np.float32)).nm == ()
    for shape in ((0, 4), (4, 0)):
        assert detect(np.ones(shape)).weights == 0


def test_the_tightest_pattern_stores_the_least():
    matrix = np.zeros((2, 64), np.float32)
    matrix[:, ::16] = 1
    matrix[:, 1::32] = 1
    found = detect(matrix)
    assert found.nm == (NM(2, 4), NM(2, 8), NM(2, 16), NM(3, 32))
    assert found.tightest == NM(3, 32)
    assert detect(np.zeros((2, 64))).tightest == NM(1, 32)
