"""Einsum against numpy's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Nodes = Callable[..., Any]
Numbers = Callable[..., Array]

SIZES = dict(zip("abijkl", (2, 3, 4, 5, 6, 7), strict=True))


@pytest.mark.parametrize(
    "equation",
    [
        *("ij,jk->ik", "ij,kj->ki", "aij,ajk->aik", "ij,ij->", "i,j->ij", "ij,jk,kl->il"),
        *("abij,abkj->abik", "aij,bij->ab", "ij->", "ij->ji", "aii->a", "aii->ai", "iji->j"),
        *("ai,aj,ak->ijk", "ij,jk", "ba,ab", "abi,bij->aj", "ij,k->i"),
    ],
)
@pytest.mark.parametrize("open_dims", [False, True])
def test_equations_agree(one_node: Nodes, numbers: Numbers, equation: str, open_dims: bool) -> None:
    terms = equation.split("->")[0].split(",")
    xs = [numbers(*(SIZES[c] for c in term)) for term in terms]
    inputs = {f"x{i}": x for i, x in enumerate(xs)}
    attrs = {"equation": equation}
    # A label that stands twice in one term needs one size: two open ones are not known equal.
    repeats = any(len(set(term)) < len(term) for term in terms)
    node = one_node("Einsum", inputs, open_dims=open_dims and not repeats, attrs=attrs)
    np.testing.assert_allclose(node.evaluated()[0], np.einsum(equation, *xs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (4, 5, 6)[1:]]),
        ("...ij,...jk->...ik", [(2, 1, 4, 5), (3, 5, 6)]),
        ("a...,a...->...", [(3, 4, 5), (3, 4, 5)]),
        ("...ii->...i", [(2, 3, 4, 4)]),
        ("i...", [(2, 3)]),
    ],
)
def test_an_ellipsis_broadcasts(
    one_node: Nodes, numbers: Numbers, equation: str, shapes: list[tuple[int, ...]]
) -> None:
    xs = [numbers(*shape) for shape in shapes]
    inputs = {f"x{i}": x for i, x in enumerate(xs)}
    node = one_node("Einsum", inputs, attrs={"equation": equation})
    np.testing.assert_allclose(node.evaluated()[0], np.einsum(equation, *xs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("equation", ["ij", "ij,jk->iz", "ij,j1->i", "ij,jkl->i", "ij,jk->ii", ""])
def test_equations_that_do_not_fit_are_refused(
    one_node: Nodes, numbers: Numbers, equation: str
) -> None:
    inputs = {"x0": numbers(2, 2), "x1": numbers(2, 2)}
    with pytest.raises(CompileError) as caught:
        one_node("Einsum", inputs, attrs={"equation": equation}).module()
    assert caught.value.code == "E0310"
