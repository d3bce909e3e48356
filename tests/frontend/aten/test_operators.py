"""torch's own operator samples through importer and evaluator, beside eager torch.

``suite.py`` runs more of them. Many operators make one program here: to prepare a program takes
longer than to run all samples of ten operators.
"""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch

SAMPLES = 2

OPERATORS = """
H T __getitem__ __radd__ __rdiv__ __rmatmul__ __rmod__ __rmul__ __rpow__ __rsub__
_softmax_backward_data _unsafe_masked_index _unsafe_masked_index_put_accumulate abs acos acosh add
addcdiv addcmul addmm addmm_decomposed addmv addr alias_copy all amax amin aminmax any arange
argmax argmin argsort argwhere as_strided as_strided_copy asin asinh atan atan2 atanh atleast_1d
atleast_2d atleast_3d baddbmm bfloat16 block_diag bmm bool broadcast_shapes broadcast_tensors
broadcast_to bucketize byte cartesian_prod cat cdist cdouble ceil cfloat char chunk clamp clamp_max
clamp_min clone column_stack conj conj_physical constant_pad_nd contiguous copysign cos cosh
count_nonzero cross cumprod cumsum cumulative_trapezoid deg2rad diag diag_embed diagflat diagonal
diagonal_copy diagonal_scatter diff dist div_floor_rounding div_no_rounding_mode div_trunc_rounding
dot double dsplit dstack einsum eq erf exp exp2 expand expand_as expand_copy expm1 eye fill flatten
flip fliplr flipud float float_power floor floor_divide fmax fmin fmod frac full full_like gather
ge gradient grid_sampler_2d grid_sampler_3d gt half heaviside histc hsplit hstack index_add
index_copy index_fill index_put index_select inner int isclose isfinite isin isinf isnan isneginf
isposinf isreal item kron kthvalue ldexp le lerp linspace linspace_tensor_overload log log10 log1p
log2 log_softmax log_softmax_with_dtype logaddexp logaddexp2 logical_and logical_not logical_or
logical_xor logit logspace logspace_tensor_overload logsumexp long lt mH mT matmul max_binary
max_reduction_no_dim max_reduction_with_dim maximum mean median meshgrid_list_of_tensors
meshgrid_variadic_tensors min_binary min_reduction_no_dim min_reduction_with_dim minimum mm movedim
msort mul mv nan_to_num nanmean nanquantile nansum native_dropout_backward native_group_norm
native_layer_norm ne neg new_full new_ones new_zeros nn_functional_adaptive_avg_pool1d
nn_functional_adaptive_avg_pool2d nn_functional_adaptive_avg_pool3d
nn_functional_adaptive_max_pool1d nn_functional_adaptive_max_pool2d
nn_functional_adaptive_max_pool3d nn_functional_avg_pool1d nn_functional_avg_pool2d
nn_functional_avg_pool3d nn_functional_binary_cross_entropy
nn_functional_binary_cross_entropy_with_logits nn_functional_celu nn_functional_channel_shuffle
nn_functional_conv1d nn_functional_conv2d nn_functional_conv3d nn_functional_conv_transpose1d
nn_functional_conv_transpose2d nn_functional_conv_transpose3d nn_functional_cosine_embedding_loss
nn_functional_cosine_similarity nn_functional_cross_entropy nn_functional_elu
nn_functional_embedding_bag nn_functional_gelu nn_functional_glu nn_functional_grid_sample
nn_functional_group_norm nn_functional_hardshrink nn_functional_hardsigmoid nn_functional_hardswish
nn_functional_hardtanh nn_functional_hinge_embedding_loss nn_functional_huber_loss
nn_functional_instance_norm nn_functional_interpolate_area nn_functional_interpolate_bicubic
nn_functional_interpolate_bilinear nn_functional_interpolate_linear
nn_functional_interpolate_nearest nn_functional_interpolate_nearest-exact
nn_functional_interpolate_trilinear nn_functional_kl_div nn_functional_l1_loss
nn_functional_layer_norm nn_functional_leaky_relu nn_functional_linear
nn_functional_linear_cross_entropy nn_functional_local_response_norm nn_functional_logsigmoid
nn_functional_margin_ranking_loss nn_functional_max_pool1d nn_functional_max_pool2d
nn_functional_max_pool3d nn_functional_max_unpool1d nn_functional_max_unpool1d_grad
nn_functional_max_unpool2d nn_functional_max_unpool2d_grad nn_functional_max_unpool3d
nn_functional_max_unpool3d_grad nn_functional_mish nn_functional_mse_loss
nn_functional_multi_head_attention_forward nn_functional_multi_margin_loss
nn_functional_multilabel_margin_loss nn_functional_multilabel_soft_margin_loss
nn_functional_nll_loss nn_functional_normalize nn_functional_pad_circular
nn_functional_pad_constant nn_functional_pad_reflect nn_functional_pad_replicate
nn_functional_pad_replicate_negative nn_functional_pairwise_distance nn_functional_pdist
nn_functional_pixel_shuffle nn_functional_pixel_unshuffle nn_functional_poisson_nll_loss
nn_functional_prelu nn_functional_relu nn_functional_relu6 nn_functional_rms_norm
nn_functional_selu nn_functional_silu nn_functional_smooth_l1_loss nn_functional_soft_margin_loss
nn_functional_softmin nn_functional_softmin_with_dtype nn_functional_softplus
nn_functional_softshrink nn_functional_softsign nn_functional_tanhshrink nn_functional_threshold
nn_functional_triplet_margin_loss nn_functional_triplet_margin_with_distance_loss
nn_functional_unfold nn_functional_upsample_bilinear nn_functional_upsample_nearest nonzero norm
norm_fro norm_inf ones ones_like outer permute positive pow prod quantile rad2deg ravel real
reciprocal remainder renorm repeat repeat_interleave reshape reshape_as resize_ resolve_conj
resolve_neg roll rot90 round round_decimals_0 round_decimals_3 round_decimals_neg_3 rsqrt rsub
scalar_tensor scatter scatter_add scatter_reduce_amin scatter_reduce_mean scatter_reduce_prod
scatter_reduce_sum searchsorted select select_scatter sgn short sigmoid sign signbit sin sinc sinh
slice slice_scatter softmax softmax_with_dtype sort split split_list_args split_with_sizes
split_with_sizes_copy sqrt square squeeze squeeze_copy squeeze_multiple stack std std_mean
std_mean_unbiased std_unbiased sub sum sum_to_size t t_copy take_along_dim tan tanh tensordot tile
to topk trace transpose transpose_copy trapezoid trapz tril triu true_divide trunc unbind unflatten
unfold unfold_copy unique unsafe_chunk unsafe_split unsqueeze unsqueeze_copy var var_mean
var_mean_unbiased var_unbiased vdot view view_as vsplit vstack where xlogy zero_ zeros zeros_like
""".split()
"""All of whose samples mean in f32 what they mean in torch."""

INTEGERS = """
abs acos acosh add addcmul addmm addmm_decomposed addmv addr alias_copy aminmax arange as_strided
as_strided_copy asin asinh atan atan2 atanh baddbmm bitwise_and bitwise_left_shift bitwise_not
bitwise_or bitwise_right_shift bitwise_xor block_diag bmm broadcast_tensors broadcast_to
cartesian_prod ceil chunk clamp clamp_max clamp_min clone conj conj_physical constant_pad_nd
contiguous copysign cos cosh cross cumprod cumsum deg2rad diag diag_embed diagonal diagonal_copy
diagonal_scatter diff div_floor_rounding div_no_rounding_mode div_trunc_rounding dot eq exp expand
expand_as expand_copy flip fliplr flipud floor floor_divide fmax fmin fmod ge gradient gt heaviside
isclose isin item ldexp le linspace_tensor_overload log log10 log1p log2 logical_and logical_not
logical_or logical_xor logspace logspace_tensor_overload lt matmul max_binary max_reduction_no_dim
max_reduction_with_dim maximum median meshgrid_list_of_tensors meshgrid_variadic_tensors min_binary
min_reduction_no_dim min_reduction_with_dim minimum mul mv nn_functional_avg_pool2d
nn_functional_conv1d nn_functional_conv2d nn_functional_conv3d nn_functional_margin_ranking_loss
nn_functional_pad_circular nn_functional_pad_constant nn_functional_pad_reflect
nn_functional_pad_replicate nn_functional_pad_replicate_negative nn_functional_relu
nn_functional_softmin_with_dtype positive remainder resolve_conj resolve_neg softmax_with_dtype sub
sum_to_size true_divide unsafe_chunk vdot
""".split()
"""The same in i64."""

BOOLS = """
all any amax amin bitwise_and bitwise_not bitwise_or bitwise_xor cat clamp_max clamp_min eq
expand fmax fmin ge gt index_select le logical_and logical_not logical_or logical_xor lt
masked_fill max_binary min_binary mul ne nonzero stack sum where
""".split()

BFLOAT16 = """
add amax cat clamp div_floor_rounding exp floor_divide gt masked_fill mean mul
nn_functional_linear nn_functional_relu nn_functional_silu pow sigmoid sqrt sub sum tanh where
""".split()

LACKING = """
addbmm angle cummax digamma erfc frexp hypot i0 index_reduce_amax lgamma logcumsumexp matrix_exp
mode nanmedian nextafter nonzero_static put unique_consecutive
""".split()
"""Without a rule: nothing of ``nn`` says them, or nobody has asked."""

REFUSED = {
    "nn_functional_scaled_dot_product_attention": "E0402 .*: dropout has no support",
    "_upsample_bilinear2d_aa": "E0402 .*: corners that are aligned have no support with a filter",
    "chalf": "E0402 element type torch.complex32 has no support",
    "nn_functional_embedding": "E0401 operator aten.embedding_renorm.default has no support",
    **dict.fromkeys(("combinations", "equal"), "E0311"),
}
"""Operators of which some samples are refused, with why: each that is not means what it means."""


def groups(dtype: torch.dtype, names: Sequence[str]) -> list[Any]:
    parts = [names[i : i + 24] for i in range(0, len(names), 24)]
    return [pytest.param(dtype, part, id=f"{str(dtype)[6:]}-{part[0]}") for part in parts]


GROUPS = [
    *groups(torch.float32, OPERATORS),
    *groups(torch.int64, INTEGERS),
    *groups(torch.bool, BOOLS),
    *groups(torch.bfloat16, BFLOAT16),
]


@pytest.mark.parametrize(("dtype", "names"), GROUPS)
def test_samples_mean_what_they_mean_in_torch(samples: Any, dtype: torch.dtype, names: Any):
    made = {name: samples.samples(name, dtype, SAMPLES) for name in names}
    assert [name for name, found in made.items() if not found] == []
    together = [sample for found in made.values() for sample in found]
    if samples.judged(samples.Applied(together))[0] != "passed":
        each = [o for name in names for o in samples.outcomes(name, dtype, SAMPLES)]
        assert [o for o in each if o.state != "passed"] == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_for_this_reason(samples: Any, name: str):
    found = samples.outcomes(name, torch.float32, 6)
    refused = [o for o in found if o.state == "refused"]
    assert refused != []
    assert [o for o in refused if not re.match(REFUSED[name], o.reason)] == []
    assert [o for o in found if o.state == "wrong"] == []


def test_operators_without_a_rule_are_all_told(samples: Any):
    made = [samples.samples(name, torch.float32, 1)[0] for name in LACKING]
    state, reason = samples.judged(samples.Applied(made))
    assert state == "refused"
    told = re.findall(r"E0401 operator aten\.(\w+)", reason)
    assert {name.removeprefix("linalg_") for name in told} == {
        name.removesuffix("_amax") for name in LACKING
    }
