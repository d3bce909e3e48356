"""LSTM, GRU and RNN: each direction is an operator of its own, joined here."""

from collections.abc import Sequence

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import drop_axis, fixed, insert_axis, need_rank, one_of
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import as_expr
from tapeout.ir.op import NNOp
from tapeout.ir.ops.recurrent import ACTIVATIONS, GruOp, LstmOp, RnnOp
from tapeout.ir.shapes import never_equal

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

# ONNX's spelling of each activation, compared without regard to case.
_ACTIVATIONS = {name.replace("_", ""): name for name in ACTIVATIONS}


@rule("LSTM")
def lstm(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    r: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    h0: Value | None = None,
    c0: Value | None = None,
    peephole: Value | None = None,
) -> tuple[Value, ...]:
    """Long short-term memory; outputs are all states, the last state and the last cell."""
    defaults = ("sigmoid", "tanh", "tanh")
    extra = {"input_forget": node.flag("input_forget")}
    return _layer(b, node, LstmOp, x, (w, r, bias), lengths, (h0, c0), peephole, defaults, extra)


@rule("GRU")
def gru(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    r: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    h0: Value | None = None,
) -> tuple[Value, ...]:
    """Gated recurrent unit; outputs are all states and the last one."""
    extra = {"linear_before_reset": node.flag("linear_before_reset")}
    defaults = ("sigmoid", "tanh")
    return _layer(b, node, GruOp, x, (w, r, bias), lengths, (h0,), None, defaults, extra)


@rule("RNN")
def rnn(
    b: Builder,
    node: Call,
    x: Value,
    w: Value,
    r: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    h0: Value | None = None,
) -> tuple[Value, ...]:
    """The plain recurrence; outputs are all states and the last one."""
    return _layer(b, node, RnnOp, x, (w, r, bias), lengths, (h0,), None, ("tanh",), {})


def _layer(
    b: Builder,
    node: Call,
    op: type[NNOp],
    x: Value,
    weights: Sequence[Value | None],
    lengths: Value | None,
    states: Sequence[Value | None],
    peephole: Value | None,
    defaults: tuple[str, ...],
    extra: dict[str, bool],
) -> tuple[Value, ...]:
    """One layer in all its directions; ``layout`` 1 has the batch before the time."""
    batch_first = _layout(node)
    for what, value in (("the input", x), ("the weights", weights[0]), ("the weights", weights[1])):
        if value is not None:
            need_rank(node, what, value, 3)
    for state in states:
        if state is not None:
            need_rank(node, "an initial state", state, 3)
    if batch_first:
        x = b.transpose(x, (1, 0, 2))
        states = [None if s is None else b.transpose(s, (1, 0, 2)) for s in states]
    reverses = DIRECTIONS[one_of(node, "direction", "forward", tuple(DIRECTIONS))]
    hidden, count = _hidden(node, weights[1]), as_expr(len(reverses))
    for value in (*weights, *([] if batch_first else states), peephole):
        if value is not None and (value.rank == 0 or never_equal(value.dims[0], count)):
            node.invalid("a weight or state is not for all directions", ("first axis", value.dims))
    made: list[tuple[Value, ...]] = []
    for i, reverse in enumerate(reverses):
        own = [_direction(b, p, i) for p in weights]
        begin = [_direction(b, s, i) for s in states]
        last = [_direction(b, peephole, i)] if op is LstmOp else []
        attrs = {**_activations(node, defaults, i, len(reverses)), **extra}
        made.append(
            b.make_many(
                op, x, *own, lengths, *begin, *last, hidden=hidden, reverse=reverse, **attrs
            )
        )
    return _joined(b, made, batch_first=batch_first)


def _layout(node: Call) -> bool:
    layout = node.integer("layout")
    if layout not in (0, 1):
        node.invalid("attribute 'layout' is neither 0 nor 1", ("layout", layout))
    return layout == 1


def _hidden(node: Call, r: Value | None) -> int:
    assert r is not None, "the recurrent weights are required"
    have = fixed(node, r.dims[-1], "the hidden state")
    hidden = node.integer("hidden_size", have)
    if hidden != have or hidden < 1:
        node.invalid(
            "attribute 'hidden_size' does not fit the weights",
            ("hidden_size", hidden),
            ("weights", have),
        )
    return hidden


def _direction(b: Builder, x: Value | None, index: int) -> Value | None:
    """One direction's part of a tensor that holds all of them along axis 0."""
    return None if x is None else drop_axis(b, b.slice_axis(x, 0, index, 1), 0)


def _activations(
    node: Call, defaults: tuple[str, ...], direction: int, directions: int
) -> dict[str, object]:
    """The activations of one direction and their constants.

    ONNX lists constants in the order of activations; where it lists fewer than there are
    activations, they belong to the first ones.
    """
    count = len(defaults)
    names = node.texts("activations") or defaults * directions
    if len(names) != count * directions:
        node.invalid("the number of activations does not fit", ("activations", list(names)))
    known = [_ACTIVATIONS.get(name.lower().replace("_", "")) for name in names]
    if None in known:
        node.invalid(
            "an activation has no definition",
            ("activations", list(names)),
            ("known", ", ".join(sorted(_ACTIVATIONS.values()))),
        )
    chosen = [k for k in known if k is not None]
    span = slice(direction * count, (direction + 1) * count)
    alphas = _constants(node, "activation_alpha", chosen, 0)[span]
    betas = _constants(node, "activation_beta", chosen, 1)[span]
    clip = node.real("clip")
    if clip < 0:
        node.invalid("attribute 'clip' is negative", ("clip", clip))
    return {"activations": tuple(chosen[span]), "alphas": alphas, "betas": betas, "clip": clip}


def _constants(node: Call, name: str, chosen: Sequence[str], which: int) -> tuple[float, ...]:
    given = node.reals(name)
    return tuple(
        given[i] if i < len(given) else ACTIVATIONS[act][which] for i, act in enumerate(chosen)
    )


def _joined(
    b: Builder, made: Sequence[tuple[Value, ...]], *, batch_first: bool
) -> tuple[Value, ...]:
    """All directions side by side: ``y [T, N, B, H]``, states ``[N, B, H]``."""
    y = b.concat([insert_axis(b, each[0], 1) for each in made], 1)
    states = [
        b.concat([insert_axis(b, each[i], 0) for each in made], 0) for i in range(1, len(made[0]))
    ]
    if not batch_first:
        return (y, *states)
    return (b.transpose(y, (2, 0, 1, 3)), *(b.transpose(s, (1, 0, 2)) for s in states))
