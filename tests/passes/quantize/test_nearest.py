"""Rounding to nearest: bounds, ranges, and what codes, scales and zero points have to be."""

from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import bf16, f16, f32
from tapeout.ir.errors import CompileError
from tapeout.passes.quantize.nearest import round_to_nearest
from tapeout.passes.quantize.weights import Group, QuantisedWeight, WeightFormat, decode

Array = np.ndarray[Any, Any]

SEEDS = range(60)
GROUPS: list[Group] = ["tensor", "channel", 1, 3, 8, 32, 100, 1000]

CLIPPED = 1.51
"""Steps that clipping may cost: half by the zero point, 255 of 2**-8 each by a bf16 scale."""


def drawn(seed: int) -> tuple[Array, WeightFormat]:
    """A matrix of any shape and magnitude, with a tail, a zero row and a zero column."""
    random = np.random.default_rng(seed)
    n, k = (int(size) for size in random.integers(1, (30, 200)))
    weight = random.standard_t(3, (n, k)) * 10.0 ** random.integers(-6, 3)
    weight[random.integers(n)] = 0
    weight[:, random.integers(k)] = 0
    if random.random() < 0.2:
        weight = np.abs(weight)
    return weight.astype(np.float32), WeightFormat(
        bits=int(random.integers(1, 9)),
        group=GROUPS[random.integers(len(GROUPS))],
        asymmetric=bool(random.integers(2)),
        scale=(f32, f16, bf16)[random.integers(3)],
    )


def steps(quantised: QuantisedWeight) -> Array:
    """The magnitude of each weight's scale, in f64."""
    return np.abs(quantised.per_weight(quantised.scales).astype(np.float64))


def inside(weight: Array, quantised: QuantisedWeight) -> Array:
    """Whether rounding to whole steps, without clipping, finds the same code."""
    scales = quantised.per_weight(quantised.scales).astype(np.float32)
    exact = np.rint(weight / scales)
    if quantised.zeros is not None:
        exact += quantised.per_weight(quantised.zeros)
    return exact == quantised.codes


def sound(quantised: QuantisedWeight) -> None:
    """Ranges and shapes that hold for every quantised weight."""
    format, codes = quantised.format, quantised.codes
    assert codes.min(initial=0) >= format.low
    assert codes.max(initial=0) <= format.high
    scales = quantised.scales.astype(np.float64)
    assert np.isfinite(scales).all()
    assert (np.abs(scales) >= (2.0**-24 if format.scale is f16 else 2.0**-126)).all()
    assert np.isfinite(quantised.dequantised()).all()
    if quantised.zeros is not None:
        assert quantised.zeros.max(initial=0) <= format.high


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_not_clipped_is_off_by_half_a_step_at_most(seed: int):
    weight, format = drawn(seed)
    quantised = round_to_nearest(weight, format)
    sound(quantised)
    if format.bipolar:
        return
    errors = np.abs(quantised.dequantised().astype(np.float64) - weight)
    held = inside(weight, quantised)
    # Half a step in exact numbers; the quotient and the product are rounded to f32.
    assert (errors <= steps(quantised) * 0.5 + np.abs(weight) * 1e-6)[held].all()
    assert (errors <= steps(quantised) * CLIPPED)[~held].all()


@pytest.mark.parametrize("seed", SEEDS)
def test_zeros_stay_zeros(seed: int):
    weight, format = drawn(seed)
    if format.bipolar:
        return
    quantised = round_to_nearest(weight, format, search=bool(seed % 2))
    assert (quantised.dequantised()[weight == 0] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_never_adds_to_the_squared_error_of_any_group(seed: int):
    weight, format = drawn(seed)
    near, searched = (round_to_nearest(weight, format, search=s) for s in (False, True))
    sound(searched)
    before, after = (
        np.square((q.dequantised() - weight).astype(np.float64)) for q in (near, searched)
    )
    axis, width = None if format.group == "tensor" else 1, format.width(weight.shape[1])
    for start in range(0, weight.shape[1], width):
        group = slice(start, start + width)
        less = after[:, group].sum(axis=axis) <= before[:, group].sum(axis=axis) * (1 + 1e-4)
        assert np.all(less)


def test_a_search_lowers_the_error_of_few_bits():
    weight = np.random.default_rng(1).standard_normal((64, 512)).astype(np.float32)
    for bits, most in ((2, 0.9), (3, 0.9), (4, 0.97)):
        format = WeightFormat(bits, 128)
        near, searched = (
            np.square(round_to_nearest(weight, format, search=s).dequantised() - weight).mean()
            for s in (False, True)
        )
        assert searched < most * near, f"{bits} bits: {searched} against {near}"


def test_importance_moves_the_error_to_where_it_counts_less():
    random = np.random.default_rng(2)
    weight = random.standard_normal((32, 256)).astype(np.float32)
    importance = np.where(np.arange(256) % 4 == 0, 100.0, 1.0)
    format = WeightFormat(3, 64)

    def cost(quantised: QuantisedWeight) -> float:
        return float((np.square(quantised.dequantised() - weight) * importance).sum())

    plain = round_to_nearest(weight, format, search=True)
    weighed = round_to_nearest(weight, format, search=True, importance=importance)
    assert cost(weighed) < 0.97 * cost(plain)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("asymmetric", [False, True])
def test_every_code_is_in_use(bits: int, asymmetric: bool):
    format = WeightFormat(bits, asymmetric=asymmetric)
    shift = format.high // 3 if asymmetric else 0
    weight = np.linspace(format.low - shift, format.high - shift, 4096, dtype=np.float32)[None]
    quantised = round_to_nearest(weight, format)
    used = np.unique(quantised.codes)
    assert used[0] == format.low
    assert used[-1] == format.high
    assert len(used) == (255 if bits == 8 and not asymmetric else 2**bits)


def test_the_extreme_of_either_sign_is_exact_in_a_symmetric_format():
    for sign in (1, -1):
        weight = sign * np.array([[4.0, -1.0, 0.5, 2.0]], np.float32)
        quantised = round_to_nearest(weight, WeightFormat(4))
        assert quantised.scales[0, 0] == -sign * 0.5
        np.testing.assert_array_equal(quantised.dequantised(), weight)


def test_one_signed_bit_is_a_sign_and_the_mean_magnitude():
    weight = np.array([[1.0, -2.0, 3.0, 0.0, -4.0]], np.float32)
    quantised = round_to_nearest(weight, WeightFormat(1, 3))
    np.testing.assert_array_equal(quantised.codes, [[1, -1, 1, 1, -1]])
    np.testing.assert_array_equal(quantised.scales, [[2.0, 2.0]])


def test_scales_that_are_made_for_one_row_do_not_reach_another():
    weight = np.array([[1.0, -0.5], [100.0, 50.0]], np.float32)
    quantised = round_to_nearest(weight, WeightFormat(8))
    np.testing.assert_array_equal(quantised.scales[:, 0] * np.float32(127), [1, 100])
    whole = round_to_nearest(weight, WeightFormat(8, "tensor"))
    assert whole.scales.shape == (1, 1)
    np.testing.assert_array_equal(whole.codes, [[1, -1], [127, 64]])


@pytest.mark.parametrize("scale", [f32, f16, bf16])
def test_codes_are_made_for_the_scale_as_it_is_stored(scale: Any):
    weight = np.random.default_rng(3).standard_normal((20, 300)).astype(np.float32)
    for asymmetric in (False, True):
        quantised = round_to_nearest(weight, WeightFormat(8, 50, asymmetric, scale))
        assert quantised.scales.dtype == scale.numpy
        zeros = None if quantised.zeros is None else quantised.per_weight(quantised.zeros)
        for other in (-1, 1):
            moved = np.clip(quantised.codes.astype(np.int32) + other, *quantised_range(quantised))
            away = decode(moved, quantised.per_weight(quantised.scales), zeros)
            nearest = np.abs(quantised.dequantised() - weight)
            assert (nearest <= np.abs(away - weight) + 1e-6).all()


def quantised_range(quantised: QuantisedWeight) -> tuple[int, int]:
    return quantised.format.low, quantised.format.high


def attempted(
    weight: Array, format: WeightFormat, search: bool
) -> tuple[QuantisedWeight | None, str]:
    """The quantised weight, or the code of the refusal."""
    try:
        return round_to_nearest(weight, format, search=search), ""
    except CompileError as error:
        return None, error.code


@pytest.mark.parametrize("magnitude", [1e-45, 1e-41, 1e-38, 1e-30, 1e-7, 1e-5, 1e4, 1e30, 3.4e38])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_tiny_and_huge_weights_keep_their_scales_finite(
    magnitude: float, bits: int, asymmetric: bool
):
    random = np.random.default_rng(4)
    weight = (random.uniform(-1, 1, (5, 70)) * magnitude).astype(np.float32)
    for scale in (f32, f16, bf16):
        for search in (False, True):
            format = WeightFormat(bits, 32, asymmetric, scale)
            quantised, code = attempted(weight, format, search)
            if quantised is None:
                # Only f16 ends early; the others do when a scale is rounded beyond f32.
                assert code == "E0702"
                assert magnitude > 3e38 or (scale is f16 and magnitude > 1e5)
                continue
            sound(quantised)
            errors = np.abs(quantised.dequantised().astype(np.float64) - weight)
            # Two signs have no code for zero; a search gives up the extremes.
            far = format.bipolar or search
            reach = steps(quantised) + (np.abs(weight).max() if far else 0)
            assert (errors <= reach * CLIPPED).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (1, 33), (33, 1)])
@pytest.mark.parametrize("group", GROUPS)
def test_shapes_at_the_edge_have_scales(shape: tuple[int, int], group: Group):
    for bits in (1, 4, 8):
        for asymmetric in (False, True):
            for search in (False, True):
                format = WeightFormat(bits, group, asymmetric)
                quantised = round_to_nearest(np.ones(shape, np.float32), format, search=search)
                sound(quantised)
                np.testing.assert_array_equal(quantised.dequantised(), np.ones(shape))


def test_a_weight_of_zeros_has_scales_of_one():
    for format in (WeightFormat(8), WeightFormat(4, 32, True), WeightFormat(1, "tensor")):
        quantised = round_to_nearest(np.zeros((3, 70), np.float32), format, search=True)
        assert (quantised.scales == 1).all()


def test_bytes_count_packed_codes_scales_and_zero_points():
    weight = np.ones((16, 100), np.float32)
    assert round_to_nearest(weight, WeightFormat(4, 32, scale=f16)).bytes == 800 + 16 * 4 * 2
    assert round_to_nearest(weight, WeightFormat(3, 50, True, f32)).bytes == 600 + 12 + 16 * 2 * 4


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(wrong: float):
    weight = np.ones((4, 6), np.float32)
    weight[2, 5] = weight[3, 0] = wrong
    with pytest.raises(CompileError) as refused:
        round_to_nearest(weight, WeightFormat(4), name="layers.3.up")
    assert refused.value.code == "E0701"
    assert "layers.3.up" in str(refused.value)
    assert "2 of 24" in str(refused.value)
    assert "row 2, column 5" in str(refused.value)
    assert refused.value.fix


def test_doubles_beyond_f32_are_refused():
    with pytest.raises(CompileError, match="E0701"):
        round_to_nearest(np.array([[1e300, 1.0]]), WeightFormat(8))


def test_a_scale_that_its_type_cannot_hold_is_refused_with_a_way_out():
    weight = np.full((1, 8), 1e7, np.float32)
    with pytest.raises(CompileError) as refused:
        round_to_nearest(weight, WeightFormat(4, 8, scale=f16), name="head")
    assert refused.value.code == "E0702"
    assert "head" in str(refused.value)
    assert "-f32" in refused.value.fix
    assert round_to_nearest(weight, WeightFormat(4, 8)).dequantised()[0, 0] == 1e7
