"""``torch.compile(..., backend="tapeout")``: open sizes, weights that change, refusals."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from tapeout.frontend.dynamo import backend


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()
    counters.clear()


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    parts = (torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.GELU(), torch.nn.Linear(5, 3))
    return torch.nn.Sequential(*parts).eval()


def agrees(compiled: Any, right: Any, *inputs: Any) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(compiled(*inputs), right(*inputs), rtol=1e-5, atol=1e-6)


def test_the_backend_is_found_by_its_name() -> None:
    wanted = model()
    agrees(torch.compile(wanted, backend="tapeout"), wanted, torch.randn(3, 4))


def test_one_program_takes_all_sizes_but_the_first() -> None:
    wanted = model()
    compiled = torch.compile(wanted, backend=backend)
    for rows in (3, 6, 7, 1200):
        agrees(compiled, wanted, torch.randn(rows, 4))
    assert counters["stats"]["unique_graphs"] == 2


def test_a_changed_weight_counts() -> None:
    wanted = model()
    compiled = torch.compile(wanted, backend=backend)
    x = torch.randn(3, 4)
    agrees(compiled, wanted, x)
    with torch.no_grad():
        next(wanted.parameters()).mul_(-2)
    agrees(compiled, wanted, x)
    wanted.load_state_dict({n: t * 0.5 for n, t in model().state_dict().items()})
    agrees(compiled, wanted, x)


def test_a_model_around_what_dynamo_cannot_follow() -> None:
    layer = model()

    def function(x: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        y = layer(x) * scale
        torch._dynamo.graph_break()
        return y.softmax(-1), y.T.contiguous()

    agrees(
        torch.compile(function, backend=backend), function, torch.randn(3, 4).T.contiguous().T, 2.0
    )


def test_gradients_are_refused() -> None:
    with pytest.raises(Exception, match=r"E0402.*gradients are wanted"):
        torch.compile(model(), backend=backend)(torch.randn(3, 4))


def test_an_unknown_operator_is_refused_by_its_name() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x)

    with torch.inference_mode(), pytest.raises(Exception, match=r"E0401[\s\S]*svd"):
        torch.compile(function, backend=backend)(torch.randn(3, 3))
