"""Every scalar function, of every kind of number, compiled and interpreted, is what it says."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tapeout.ir.dtypes import DTYPES, DType
from tapeout.ir.evaluator import evaluate
from tapeout.ir.expr import as_expr
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.scalars import SCALARS
from tapeout.ir.types import Spec
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.manager import run

Array = np.ndarray[Any, Any]
Together = Callable[[list[Module]], Callable[[int, Mapping[str, Array]], dict[str, Array]]]
KINDS = ("f32", "f64", "i32", "i64", "u8", "bool")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 80.0, -80.0, 1e-6, -1e-6]
UNBOUNDED = [np.inf, -np.inf, np.nan]
NEEDS = {
    "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.99, 0.99), "acosh": (1, 50), "log": (1e-6, 50),
    "log1p": (-0.99, 50), "sqrt": (0, 50), "rsqrt": (1e-3, 50), "tan": (-1.5, 1.5),
}  # fmt: skip
"""Where a function is defined, or well conditioned."""


def operands(fn: str, dtype: DType) -> list[Array]:
    random = np.random.default_rng(3)
    count = 120
    given: list[Array] = []
    for n in range(SCALARS[fn].arity):
        if fn == "where" and n == 0:
            given.append(random.random(count) > 0.5)
        elif dtype.is_float:
            low, high = NEEDS.get(fn, (-20, 20))
            special = [x for x in SPECIAL if low <= x <= high]
            if fn in ("abs", "neg", "relu", "max", "min", "is_nan", "is_inf", "sigmoid", "tanh"):
                special = [*special, *UNBOUNDED]
            if fn == "pow":
                low, special = (0.1, []) if n == 0 else (-3, [])
                high = 3
            values = [*special, *random.uniform(low, high, count - len(special))]
            given.append(random.permutation(np.array(values)).astype(dtype.numpy))
        elif dtype.kind == "bool":
            given.append(random.random(count) > 0.5)
        else:
            low = 0 if dtype.kind == "uint" else -2 if (fn, n) == ("pow", 1) else -7
            top = {"pow": 5, "shift_left": 9, "shift_right": 9}.get(fn, 8)
            low = 0 if fn.startswith("shift") else low
            drawn = random.integers(low, top, count)
            if (fn, n) == ("pow", 0):
                drawn[drawn == 0] = 2  # 0 to a negative power is no integer
            given.append(drawn.astype(dtype.numpy))
    return given


def module(fn: str, arrays: list[Array], dtypes: list[DType]) -> Module:
    specs = [
        (f"in{i}", Spec((as_expr(len(a)),), t))
        for i, (a, t) in enumerate(zip(arrays, dtypes, strict=True))
    ]
    entry = EntryOp("main", specs)
    op = MapOp.make(tuple(entry.body.block.args), fn=fn)
    entry.body.block.add_ops([op, ReturnOp(op.results)])
    entry.properties["outputs"] = type(entry.outputs)(("out",))
    made = Module()
    made.ir.body.block.add_op(entry)
    return made


CALLS = [("sin", "f64"), ("cos", "f64"), ("tan", "f64")]
"""What Triton compiles to calls of functions, which the PTX interpreter refuses."""
CASES = [
    (fn, kind)
    for fn in SCALARS
    for kind in KINDS
    if DTYPES[kind].kind in SCALARS[fn].accepts and (fn, kind) not in CALLS
]


@pytest.fixture(scope="module")
def results(together: Together) -> Callable[[tuple[str, str]], tuple[Array, Array]]:
    """What the compiled code of a case gives, and what it should; all are compiled at once."""
    modules, inputs = list[Module](), list[dict[str, Array]]()
    for fn, kind in CASES:
        dtype = DTYPES[kind]
        arrays = operands(fn, dtype)
        dtypes = [DTYPES["bool"] if a.dtype == np.bool_ else dtype for a in arrays]
        modules.append(module(fn, arrays, dtypes))
        inputs.append({f"in{i}": a for i, a in enumerate(arrays)})
    wanted = [evaluate(m, given)["out"] for m, given in zip(modules, inputs, strict=True)]
    for each in modules:
        run(each, [Fuse()])
    interpret = together(modules)

    def of(case: tuple[str, str]) -> tuple[Array, Array]:
        number = CASES.index(case)
        return interpret(number, inputs[number])["out"], wanted[number]

    return of


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case))
def test_a_function_is_what_it_says(
    case: tuple[str, str], results: Callable[[tuple[str, str]], tuple[Array, Array]]
) -> None:
    have, want = results(case)
    assert have.dtype == want.dtype
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(have, want)
        return
    tolerance = 1e-5 if want.dtype == np.float32 else 1e-6
    np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance)
