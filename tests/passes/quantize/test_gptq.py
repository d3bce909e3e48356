"""GPTQ: less error at the output than rounding to nearest, and the codes that the paper finds."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import f16
from tapeout.ir.errors import CompileError
from tapeout.passes.quantize.gptq import gptq, triangular
from tapeout.passes.quantize.nearest import round_to_nearest
from tapeout.passes.quantize.weights import QuantisedWeight, WeightFormat, decode, encode

Array = np.ndarray[Any, Any]

FORMATS = (
    *(WeightFormat(bits, 32, scale=f16) for bits in (1, 2, 3, 4, 8)),
    *(WeightFormat(4), WeightFormat(8), WeightFormat(3, "tensor"), WeightFormat(3, 200)),
    *(WeightFormat(4, 100, asymmetric=True), WeightFormat(2, 64, asymmetric=True)),
)


def correlated(random: np.random.Generator, samples: int, k: int) -> Array:
    """Inputs that lie near a subspace, some of them far larger than others, as in networks."""
    mixed = random.standard_normal((samples, k // 4)) @ random.standard_normal((k // 4, k))
    inputs = mixed / np.sqrt(k / 4) + 0.2 * random.standard_normal((samples, k))
    return (inputs * np.exp(random.standard_normal(k))).astype(np.float32)


def drawn(seed: int, n: int, k: int, samples: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    return random.standard_normal((n, k)).astype(np.float32), correlated(random, samples, k)


def lost(inputs: Array, weight: Array, quantised: QuantisedWeight) -> float:
    """``||X W^T - X Wq^T|| / ||X W^T||``."""
    exact = inputs.astype(np.float64) @ weight.T
    have = inputs.astype(np.float64) @ quantised.dequantised().T
    return float(np.linalg.norm(exact - have) / np.linalg.norm(exact))


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_correlated_inputs_lose_less_than_by_rounding_to_nearest(format: WeightFormat):
    weight, inputs = drawn(1, 48, 300, 900)
    near = lost(inputs, weight, round_to_nearest(weight, format))
    for by_activation in (False, True):
        for search in (False, True):
            gram = inputs.T @ inputs
            made = gptq(weight, gram, format, by_activation=by_activation, search=search)
            loss = lost(inputs, weight, made)
            most = 0.85 if format.bits == 1 else 0.75
            assert loss < most * near, f"{by_activation}, {search}: {loss} against {near}"


def test_inputs_that_were_not_seen_lose_less_too():
    weight, inputs = drawn(2, 48, 200, 3000)
    seen, fresh = inputs[:2000], inputs[2000:]
    format = WeightFormat(3, 50)
    near = lost(fresh, weight, round_to_nearest(weight, format))
    assert lost(fresh, weight, gptq(weight, seen.T @ seen, format)) < 0.8 * near


def inverted(h: Array) -> Array:
    return np.linalg.inv(h)


def as_published(weight: Array, gram: Array, format: WeightFormat, damping: float) -> Array:
    """Codes of the paper's own form: one column at a time, and the inverse of what is left."""
    w = weight.astype(np.float64)
    k = w.shape[1]
    h: Array = gram.astype(np.float64) + damping * gram.diagonal().mean() * np.eye(k)
    scales = round_to_nearest(weight, format).scales
    codes = np.empty(w.shape, format.numpy)
    for j in range(k):
        inverse = inverted(h[j:, j:])
        codes[:, j] = encode(w[:, j : j + 1], scales, None, format)[:, 0]
        error = (w[:, j] - decode(codes[:, j : j + 1], scales, None)[:, 0]) / inverse[0, 0]
        w[:, j:] -= np.outer(error, inverse[0])
    return codes


@pytest.mark.parametrize("seed", range(5))
def test_the_triangular_form_finds_the_codes_of_the_paper(seed: int):
    weight, inputs = drawn(seed, 12, 150, 400)
    gram, format = inputs.T @ inputs, WeightFormat(4)
    want = as_published(weight, gram, format, 0.01)
    have = gptq(weight, gram, format, damping=0.01).codes
    # f32 against f64 may round a tie otherwise, and what follows in that row with it.
    assert (have == want).mean() > 0.99


def test_uncorrelated_inputs_leave_rounding_to_nearest():
    weight = np.random.default_rng(3).standard_normal((9, 70)).astype(np.float32)
    for format in (WeightFormat(4, 32), WeightFormat(8), WeightFormat(3, 16, True)):
        near = round_to_nearest(weight, format)
        for gram in (np.eye(70), np.zeros((70, 70)), 1e30 * np.eye(70)):
            made = gptq(weight, gram, format)
            np.testing.assert_array_equal(made.codes, near.codes)
            np.testing.assert_array_equal(made.scales, near.scales)


@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("by_activation", [False, True])
def test_fewer_samples_than_inputs_are_enough(damping: float, by_activation: bool):
    weight, inputs = drawn(4, 24, 160, 20)
    inputs[:, 30:40] = 0
    inputs[:, 50] = inputs[:, 51]
    format, gram = WeightFormat(4, 32), inputs.T @ inputs
    made = gptq(weight, gram, format, damping=damping, by_activation=by_activation)
    assert np.isfinite(made.dequantised()).all()
    assert lost(inputs, weight, made) < lost(inputs, weight, round_to_nearest(weight, format))


def test_inputs_that_were_never_seen_are_rounded_to_nearest():
    weight, inputs = drawn(5, 8, 64, 200)
    inputs[:, 10:20] = 0
    made = gptq(weight, inputs.T @ inputs, WeightFormat(4))
    near = round_to_nearest(weight, WeightFormat(4))
    np.testing.assert_array_equal(made.codes[:, 10:20], near.codes[:, 10:20])


@pytest.mark.parametrize("seed", range(20))
def test_ragged_shapes_have_codes_in_range(seed: int):
    random = np.random.default_rng(seed)
    n, k = (int(size) for size in random.integers(1, (20, 300)))
    weight, inputs = drawn(seed, n, max(k, 4), 50)
    group = int(random.integers(1, 320))
    format = WeightFormat(int(random.integers(1, 9)), group, bool(random.integers(2)))
    made = gptq(weight, inputs.T @ inputs, format, search=bool(random.integers(2)))
    assert made.codes.min() >= format.low
    assert made.codes.max() <= format.high
    assert np.isfinite(made.dequantised()).all()


def test_a_matrix_without_inputs_or_outputs_has_no_codes():
    for shape in ((0, 5), (5, 0)):
        made = gptq(np.ones(shape, np.float32), np.eye(shape[1]), WeightFormat(4, 4))
        assert made.codes.shape == shape


@pytest.mark.parametrize("format", [WeightFormat(4, 32), WeightFormat(4, 32, True)], ids=str)
@pytest.mark.parametrize("by_activation", [False, True])
def test_pruned_weights_stay_zero_and_are_made_up_for(format: WeightFormat, by_activation: bool):
    weight, inputs = drawn(6, 32, 128, 500)
    gram = inputs.T @ inputs
    keep = np.random.default_rng(6).permutation(weight.size).reshape(weight.shape) % 2 == 0
    made = gptq(weight, gram, format, keep=keep, by_activation=by_activation)
    assert (made.dequantised()[~keep] == 0).all()
    plain = round_to_nearest(np.where(keep, weight, 0), format)
    assert lost(inputs, weight, made) < 0.8 * lost(inputs, weight, plain)


def test_the_factor_is_triangular_and_gives_the_damped_matrix_back():
    _, inputs = drawn(7, 1, 40, 30)
    gram = (inputs.T @ inputs).astype(np.float64)
    factor = triangular(gram, 0.05, "w")
    np.testing.assert_array_equal(np.tril(factor, -1), 0)
    want = gram / gram.diagonal().mean() + 0.05 * np.eye(40)
    np.testing.assert_allclose(factor @ factor.T, want, atol=1e-12 * want.max())


def wrong_grams() -> dict[str, Array]:
    lopsided = np.eye(6) + np.triu(np.ones((6, 6)), 1)
    spoilt = np.eye(6)
    spoilt[1, 2] = np.nan
    return {
        "NaN": spoilt,
        "negative": np.diag([1.0, 1, 1, -1, 1, 1]),
        "symmetric": lopsided,
        "eigenvalues": np.eye(6) + 50 * (np.ones((6, 6)) - np.eye(6)),
    }


@pytest.mark.parametrize("why", wrong_grams())
def test_what_is_no_gram_matrix_is_refused_by_name(why: str):
    with pytest.raises(CompileError) as refused:
        gptq(np.ones((2, 6), np.float32), wrong_grams()[why], WeightFormat(4), name="layer.7")
    assert refused.value.code == "E0703"
    assert "layer.7" in str(refused.value)
    assert why in str(refused.value)
    assert refused.value.fix


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(CompileError, match="E0701"):
        gptq(np.full((2, 6), np.nan), np.eye(6), WeightFormat(4))
