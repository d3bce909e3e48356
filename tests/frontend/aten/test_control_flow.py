"""Graphs inside of graphs, and sizes that data decides, against torch."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._higher_order_ops import map as map_  # pyright: ignore[reportPrivateUsage]
from torch._higher_order_ops import (
    scan,  # pyright: ignore[reportPrivateUsage]
    while_loop,  # pyright: ignore[reportPrivateUsage]
)
from torch.utils import _pytree as pytree

from tapeout.ir.errors import CompileError

X = torch.tensor([0.5, -1.0, 2.0, -0.25])


def branches(x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda x: (x + 1, x.sum()), lambda x: (x - 1, x.max()), (x,))


def nested(x: torch.Tensor) -> Any:
    def inner(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x[0] > 0, lambda x: x * 2, lambda x: x * 3, (x,))

    return torch.cond(x.sum() > 0, inner, lambda x: x - 1, (x,))


def halving(x: torch.Tensor) -> Any:
    """Runs as often as data says, not at all where it says so."""
    return while_loop(
        lambda i, x: x.abs().max() > 1, lambda i, x: (i + 1, x / 2), (torch.tensor(0), x)
    )


def running_sums(x: torch.Tensor) -> Any:
    return scan(lambda c, a: (c + a, c * a), torch.zeros(()), x)


def from_behind(x: torch.Tensor) -> Any:
    return scan(
        lambda c, a: (c * 0.5 + a, c.clone()), torch.zeros(4), torch.outer(x, x), reverse=True
    )


def slices(x: torch.Tensor) -> Any:
    return map_(lambda a, b: a * b, x, torch.ones(3))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("model", [branches, nested, halving, running_sums, from_behind, slices])
def test_graphs_inside_of_graphs_mean_what_they_mean_in_torch(
    imported: Any, model: Callable[..., Any]
):
    made = imported(model, X)
    for x in (X, -X, X / 4):
        wanted = pytree.tree_leaves(model(x))
        for want, have in zip(wanted, made.run(x), strict=True):
            np.testing.assert_allclose(have, want.numpy(), rtol=1e-6)


def test_a_condition_on_sizes_is_one_on_sizes(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return torch.cond(x.shape[0] > 4, lambda x: x + 1, lambda x: x - 1, (x,))

    made = imported(model, torch.zeros(6), shapes=[{0: torch.export.Dim("n", min=2, max=9)}])
    for size, want in ((3, -1), (4, -1), (5, 1), (9, 1)):
        (found,) = made.run(torch.zeros(size))
        assert found.tolist() == [want] * size


def test_a_loop_that_carries_an_integer_is_refused_with_what_to_write_instead(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (0, x))

    with pytest.raises(CompileError, match=r"E0402(.|\n)*torch\.tensor\(n\)"):
        imported(model, X)


DECIDED: dict[str, Callable[..., Any]] = {
    "nonzero": lambda x: torch.nonzero(x > 0),
    "mask": lambda x: x[x > 0] * 2,
    "sum of a mask": lambda x: x[x > 0].sum(),
    "masked_select": lambda x: torch.masked_select(x, x[:1] < x),
    "mask of a matrix": lambda x: torch.outer(x, x)[torch.outer(x, x) > 0],
    "rows of a mask": lambda x: torch.outer(x, x)[x > 0] + 1,
    "unique": lambda x: torch.unique((x > 0).float(), return_inverse=True, return_counts=True),
    "put": lambda x: x.index_put((x > 0,), x[x > 0] * 10),
    "item as a size": lambda x: torch.zeros((x > 0).sum().item()) + 1,
    "item as a number": lambda x: x + (x < 0).sum().neg().item(),
    "item of a float": lambda x: x * x.sum().item(),
    "repeats": lambda x: torch.repeat_interleave(x, (x > 0).long() * 2),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x + 1),
}


def test_data_decides_sizes(imported: Any):
    def model(x: torch.Tensor) -> Any:
        return {name: function(x) for name, function in DECIDED.items()}

    made = imported(model, X)
    for x in (X, -X, X.abs(), -X.abs()):
        wanted = pytree.tree_leaves(model(x))
        for want, have in zip(wanted, made.run(x), strict=True):
            assert have.dtype == want.numpy().dtype
            np.testing.assert_allclose(have, want.numpy(), rtol=1e-6)
