"""Corners of operators that torch's own samples leave out, against torch."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownParameterType=false

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tapeout.frontend.aten.importer import import_program

Tensor = torch.Tensor
Case = tuple[Callable[..., Any], tuple[Any, ...]]

LINE = torch.tensor([3.0, -1.0, 0.5, -2.5, 7.0])
MATRIX = torch.arange(12.0).reshape(3, 4) - 5
CUBE = torch.arange(24.0).reshape(2, 3, 4).sin()
WHOLE = torch.tensor([7, -7, 6, -6, 0])
BY = torch.tensor([3, 3, -4, -4, 5])
NOTHING = torch.zeros(0, 4)
SCALAR = torch.tensor(2.5)
SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan])

# An operator with arguments, as `(function, arguments)`.
GROUPS: dict[str, list[Case]] = {
    "types": [
        (lambda x: x + 1, (WHOLE,)),
        (lambda x: x + 1.5, (WHOLE,)),
        (lambda x: x * True, (WHOLE,)),
        (lambda x, y: x + y, (WHOLE.int(), SCALAR)),
        (lambda x, y: x + y, (LINE.bfloat16(), SCALAR)),
        (lambda x, y: x * y, (WHOLE.to(torch.int8), WHOLE)),
        (lambda x, y: x / y, (WHOLE, BY)),
        (lambda x: x > 0.5, (WHOLE,)),
        (lambda x: x == 2**40, (WHOLE.int().long(),)),
        (lambda x: x.sum(), (WHOLE > 0,)),
        (lambda x: x.mean(dtype=torch.float32), (WHOLE,)),
        (lambda x: ~x, (WHOLE > 0,)),
        (lambda x: torch.where(x > 0, x, 0), (WHOLE,)),
        (lambda x: torch.where(x > 0, 1.0, x), (WHOLE,)),
        (lambda x: torch.where(x > 0, 1, 2), (LINE,)),
    ],
    "division": [
        (lambda x, y: x // y, (WHOLE, BY)),
        (lambda x, y: x % y, (WHOLE, BY)),
        (lambda x, y: torch.fmod(x, y), (WHOLE, BY)),
        (lambda x, y: torch.div(x, y, rounding_mode="trunc"), (WHOLE, BY)),
        (lambda x, y: x // y, (LINE, LINE.flip(0))),
        (lambda x, y: x % y, (LINE, LINE.flip(0))),
        (lambda x: x // 0.1, (LINE,)),
        (lambda x: x // 0, (LINE,)),
    ],
    "special numbers": [
        (lambda x: torch.atan2(x[:, None], x), (SPECIAL,)),
        (lambda x: torch.copysign(x[:, None], x), (SPECIAL,)),
        (lambda x: torch.fmax(x[:, None], x), (SPECIAL,)),
        (lambda x: torch.maximum(x[:, None], x), (SPECIAL,)),
        (lambda x: x.argmax(), (SPECIAL,)),
        (lambda x: x.median(), (SPECIAL,)),
        (lambda x: torch.nan_to_num(x), (SPECIAL,)),
        (lambda x: x.clamp(-0.5, 0.5), (SPECIAL,)),
        (lambda x: torch.searchsorted(torch.arange(-1.0, 3), x, right=True), (SPECIAL,)),
    ],
    "views": [
        (lambda x: x[..., None, 1:9:2], (MATRIX,)),
        (lambda x: x[-2:, -9:-1], (MATRIX,)),
        (lambda x: x[3:1], (LINE,)),
        (lambda x: x.flip(0, -1), (MATRIX,)),
        (lambda x: x.roll((1, -2), (0, 1)), (MATRIX,)),
        (lambda x: x.unfold(0, 2, 2), (LINE,)),
        (lambda x: x.unfold(-1, 3, 1), (MATRIX,)),
        (lambda x: x.as_strided((2, 3), (1, 2), 1), (MATRIX,)),
        (lambda x: x.diagonal(-1), (MATRIX,)),
        (lambda x: x.diagonal(1, -1, 0), (CUBE,)),
        (lambda x: torch.cat([x, torch.zeros(0), x[:1]]), (LINE,)),
        (lambda x: torch.cat([x, x[:, :0]], -1), (MATRIX,)),
        (lambda x: x.split([1, 0, 3], -1), (MATRIX,)),
        (lambda x: torch.movedim(x, 0, -1).reshape(-1), (CUBE,)),
        (lambda x: F.pad(x, (-1, 2, 1, -1)), (MATRIX,)),
        (lambda x: x.t().contiguous().view(torch.int32), (MATRIX,)),
    ],
    "indices": [
        (lambda x, i: x[i, :, i], (CUBE, torch.tensor([0, 1]))),
        (lambda x, i: x[:, i, i], (CUBE, torch.tensor([0, -1]))),
        (lambda x, i: x[None, i], (CUBE, torch.tensor([[1], [0]]))),
        (lambda x, i: x[:, None, i], (CUBE, torch.tensor([2, 0, 2]))),
        (lambda x, i: x.index_put((i,), x[0] * 2, accumulate=True), (MATRIX, torch.tensor([1, 1]))),
        (
            lambda x, i: torch.ops.aten.index_put(x, [None, i], x[:, :2] + 9),
            (MATRIX, torch.tensor([3, 0])),
        ),
        (
            lambda x, i: torch.ops.aten.index_put(x, [i, None, i], x[:, :, 0] + 9),
            (CUBE, torch.tensor([1, 0])),
        ),
        (lambda x, i: x.index_add(1, i, x[:, :2]), (MATRIX, torch.tensor([3, 3]))),
        (lambda x, i: x.gather(-1, i), (MATRIX, torch.tensor([[1, 3], [0, 0], [2, 2]]))),
        (
            lambda x, i: x.scatter_reduce(0, i, x, "mean", include_self=False),
            (LINE, torch.tensor([0, 0, 2, 2, 2])),
        ),
        (lambda x: torch.slice_scatter(x, x[:, :2], 1, 0, 4, 2), (MATRIX,)),
        (lambda x: torch.select_scatter(x, x[0], 0, -1), (MATRIX,)),
        (lambda x: torch.diagonal_scatter(x, x[0, :3], 1), (MATRIX,)),
    ],
    "reductions": [
        (lambda x: x.sum(()), (MATRIX,)),
        (lambda x: x.sum((0, -1), keepdim=True), (CUBE,)),
        (lambda x: x.var(correction=0), (LINE,)),
        (lambda x: x.var((0, 1), correction=2), (MATRIX,)),
        (lambda x: x[:1].var(), (LINE,)),
        (lambda x: x.std(1), (MATRIX,)),
        (lambda x: x.sum(0), (NOTHING,)),
        (lambda x: x.prod(), (NOTHING,)),
        (lambda x: x.mean(1), (NOTHING,)),
        (lambda x: x.max(), (SCALAR,)),
        (lambda x: x.max(0), (SCALAR,)),
        (lambda x: x.sort(0), (SCALAR,)),
        (lambda x: x.cumsum(0), (SCALAR,)),
        (lambda x: x.softmax(0), (SCALAR,)),
        (lambda x: x.argmin(1, keepdim=True), (MATRIX,)),
        (lambda x: x.kthvalue(2), (LINE,)),
        (lambda x: (x > 0).any(-1), (MATRIX,)),
        (lambda x: (x > 0).amax(0), (MATRIX,)),
        (lambda x: torch.linalg.vector_norm(x, 3, (0, 1)), (MATRIX,)),
        (lambda x: torch.histc(x, 4, -2, 3), (LINE,)),
        (lambda x: torch.cdist(x, x + 1), (MATRIX,)),
    ],
    "windows": [
        (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (CUBE,)),
        (lambda x: F.adaptive_max_pool2d(x, (2, 3), return_indices=True), (CUBE,)),
        (lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True), (CUBE,)),
        (lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False), (CUBE,)),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), (CUBE,)),
        (lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"), (CUBE,)),
        (lambda x: F.interpolate(x, 7, mode="linear", align_corners=True), (CUBE,)),
        (lambda x: F.interpolate(x, scale_factor=1.7), (CUBE,)),
        (lambda x: F.interpolate(x[None], (2, 9), mode="bicubic"), (CUBE,)),
        (lambda x: F.interpolate(x[None], (2, 2), mode="bilinear", antialias=True), (CUBE,)),
    ],
    "recurrence": [
        (torch.nn.LSTM(4, 3, 2, bidirectional=True), (CUBE,)),
        (torch.nn.LSTM(4, 3, bias=False, batch_first=True), (CUBE,)),
        (torch.nn.GRU(4, 3, 2, bidirectional=True), (CUBE,)),
        (torch.nn.RNN(4, 3, nonlinearity="relu"), (CUBE,)),
        (torch.nn.RNN(4, 3, 2), (CUBE,)),
    ],
    "results": [
        (lambda x: (x, x, x.shape[0], 2.5, None, True), (LINE,)),
        (lambda x: {"b": x + 1, "a": [x - 1, (x * 2,)]}, (LINE,)),
        (lambda x: x.sum().item(), (LINE,)),
        (torch.nn.EmbeddingBag(5, 3, mode="max"), (torch.tensor([[0, 4], [2, 2]]),)),
        (torch.nn.BatchNorm1d(4, track_running_stats=False).eval(), (MATRIX,)),
    ],
}


@pytest.mark.parametrize("group", GROUPS)
def test_corners_mean_what_they_mean_in_torch(samples: Any, group: str):
    def outcome(cases: list[Case]) -> tuple[str, str]:
        return samples.judged(samples.Applied([(f, (args, {})) for f, args in cases]))

    if outcome(GROUPS[group])[0] != "passed":
        each = {i: outcome([case]) for i, case in enumerate(GROUPS[group])}
        assert {i: found for i, found in each.items() if found[0] != "passed"} == {}


def test_a_program_names_its_results_by_their_places():
    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"b": x + 1, "a": [x - 1, (x * 2,)]}

    from tapeout.frontend.aten.export import exported

    entry = next(import_program(exported(Model(), (LINE,))).entries())
    assert entry.inputs.data == ("x",)
    assert sorted(entry.outputs.data) == ["a.0", "a.1.0", "b"]
