"""Programs exported with ranges, at the ends of the ranges and between."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim

from tapeout.ir.errors import CompileError

Tensor = torch.Tensor


class Block(torch.nn.Module):
    """What sizes go through: products, views, slices, norms, sums over open axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(8, 4)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Any:
        b, s, _ = x.shape
        y = self.first(self.norm(x)).view(b, s, 2, 8).transpose(1, 2)
        scores = torch.softmax(y @ y.transpose(-1, -2), -1) @ y
        joined = torch.cat([scores, scores[:, :, -1:], x[:, None].expand(b, 2, s, 8)], 2)
        ahead = torch.arange(s)[None] + torch.arange(b)[:, None] * s
        return self.second(joined).mean((1, 2)), ahead, scores.reshape(-1, 8)


def test_every_size_in_the_ranges_runs(imported: Any):
    module = Block().eval()
    shapes = ({0: Dim("B", min=1, max=5), 1: Dim("S", min=1, max=16)},)
    made = imported(module, torch.randn(3, 4, 8), shapes=shapes)
    assert made.inputs == ["B, S, 8"]
    for b, s in itertools.product((1, 2, 5), (1, 2, 3, 7, 16)):
        x = torch.randn(b, s, 8, generator=torch.Generator().manual_seed(17 * b + s))
        with torch.no_grad():
            wanted = module(x)
        for want, have in zip(wanted, made.run(x), strict=True):
            np.testing.assert_allclose(have, want.numpy(), rtol=2e-5, atol=2e-6)


def test_a_dimension_may_be_computed_from_another(imported: Any):
    d = Dim("half", min=2, max=8)
    made = imported(lambda x: x.reshape(-1, 2).sum(1), torch.randn(8), shapes=[{0: 2 * d}])
    assert made.inputs == ["2*half"]
    for n in (2, 5, 8):
        x = torch.randn(2 * n)
        np.testing.assert_allclose(made.run(x)[0], x.reshape(-1, 2).sum(1).numpy(), rtol=1e-6)
    with pytest.raises(CompileError, match="E0208"):
        made.run(torch.randn(7))


def test_two_inputs_may_share_a_dimension(imported: Any):
    n = Dim("n", min=1, max=8)
    shapes = [{0: n + 1}, {0: n}]
    made = imported(lambda x, y: x[1:] + y, torch.randn(5), torch.randn(4), shapes=shapes)
    assert made.inputs == ["n + 1", "n"]
    for size in (1, 3, 8):
        x, y = torch.randn(size + 1), torch.randn(size)
        np.testing.assert_array_equal(made.run(x, y)[0], (x[1:] + y).numpy())


def test_places_may_count_from_an_end_that_is_open(imported: Any):
    n = Dim("n", min=1, max=6)
    made = imported(
        lambda x, y: x[-y.shape[0] :] + y, torch.randn(6), torch.randn(2), shapes=[None, {0: n}]
    )
    for size in (1, 2, 6):
        x, y = torch.randn(6), torch.randn(size)
        np.testing.assert_array_equal(made.run(x, y)[0], (x[-size:] + y).numpy())


def rows(imported: Any, dims: Any, **limits: int) -> Any:
    return imported(lambda x: x + 1, torch.randn(4, 3), shapes=[{0: Dim("N", **limits)}], dims=dims)


def test_dims_narrow_a_range(imported: Any):
    made = rows(imported, {"N": (2, 4)}, min=1, max=64)
    assert made.inputs == ["N, 3"]
    assert rows(imported, {"N": 5}, min=1, max=64).inputs == ["5, 3"]
    assert rows(imported, None, min=1, max=64).inputs == ["N, 3"]


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ({"M": 3}, "no dimension 'M'(.|\n)*known: N"),
        ({"N": (0, 4)}, "another range(.|\n)*exported: 1..64(.|\n)*given: +0..4"),
        ({"N": (2, 65)}, "another range"),
        ({"N": (5, 4)}, "another range"),
    ],
)
def test_dims_outside_of_what_was_exported_are_refused(imported: Any, dims: Any, words: str):
    with pytest.raises(CompileError, match=f"E0103(.|\n)*{words}"):
        rows(imported, dims, min=1, max=64)


def test_a_name_that_is_no_short_identifier_is_replaced(imported: Any):
    for name in ("max", "n0", "a" * 40):
        made = imported(lambda x: x + 1, torch.randn(4), shapes=[{0: Dim(name, min=1, max=9)}])
        assert made.inputs != [name]
        assert made.run(torch.ones(9))[0].shape == (9,)
