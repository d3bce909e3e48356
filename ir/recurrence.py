"""Recurrent layers step by step, in numpy: what ``nn.lstm``, ``nn.gru`` and ``nn.rnn`` mean."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
State = tuple[Array, ...]

# Default (alpha, beta) of each activation, as ONNX gives them.
ACTIVATIONS: Mapping[str, tuple[float, float]] = {
    "sigmoid": (0.0, 0.0),
    "tanh": (0.0, 0.0),
    "relu": (0.0, 0.0),
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01, 0.0),
    "thresholded_relu": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
    "softsign": (0.0, 0.0),
    "softplus": (0.0, 0.0),
}
_MEANINGS: Mapping[str, Callable[[Array, float, float], Array]] = {
    "sigmoid": lambda x, a, b: 0.5 * (1 + np.tanh(0.5 * x)),
    "tanh": lambda x, a, b: np.tanh(x),
    "relu": lambda x, a, b: np.maximum(x, 0),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "thresholded_relu": lambda x, a, b: np.where(x > a, x, 0),
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "softplus": lambda x, a, b: np.logaddexp(0, x),
}


def activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], clip: float
) -> list[Callable[[Array], Array]]:
    """One function per name; ``clip`` > 0 limits the input of the first two."""

    def build(index: int, name: str) -> Callable[[Array], Array]:
        alpha = alphas[index] if alphas else ACTIVATIONS[name][0]
        beta = betas[index] if betas else ACTIVATIONS[name][1]

        def apply(x: Array) -> Array:
            limited = np.clip(x, -clip, clip) if clip > 0 and index < 2 else x
            return _MEANINGS[name](limited, alpha, beta).astype(x.dtype)

        return apply

    return [build(i, name) for i, name in enumerate(names)]


def scan(
    x: Array,
    lengths: Array | None,
    reverse: bool,
    start: State,
    step: Callable[[Array, State], State],
) -> tuple[Array, State]:
    """Run ``step`` over ``x [T, B, I]``; the first state is what each step gives out.

    A sequence keeps its state, and gives zeros, from its length on.
    """
    steps, batch = x.shape[:2]
    counts = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    if reverse:
        x = _reversed(x, counts)
    state = start
    ys = np.zeros((steps, *start[0].shape), start[0].dtype)
    for t in range(steps):
        going = (t < counts)[:, None]
        state = tuple(
            np.where(going, new, old) for new, old in zip(step(x[t], state), state, strict=True)
        )
        ys[t] = np.where(going, state[0], 0)
    return _reversed(ys, counts) if reverse else ys, state


def _reversed(x: Array, counts: Array) -> Array:
    """The first ``counts[b]`` steps of each sequence ``x[:, b]`` back to front."""
    t = np.arange(x.shape[0], dtype=np.int64)[:, None]
    order = np.where(t < counts, counts - 1 - t, t)
    return np.take_along_axis(x, order.reshape(*order.shape, 1), axis=0)
