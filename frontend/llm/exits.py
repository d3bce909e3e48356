"""Points behind a layer where tokens may leave: the layers from there on run on those that stay.

What leaves is read out by the model's own norm and head, as LayerSkip trains models to be read:
Elhoushi et al. 2024, arXiv:2404.16710.
"""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tapeout.frontend.llm.state_space import is_recurrent
from tapeout.ir.errors import CompileError


@torch.library.custom_op("tapeout::stay", mutates_args=())
def stay(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The tokens ``[1, S, D]`` of ``x [1, T, D]`` at ``places [S]``; the others attend no more."""
    return x.index_select(1, places)


def _stay_shape(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return x.new_empty((x.shape[0], places.shape[0], x.shape[2]))


_operator: Any = stay
_operator.register_fake(_stay_shape)


def layers_of(model: Any, exits: Sequence[int]) -> list[torch.nn.Module]:
    """The layers of a model, which have exits behind them; E0106 where that cannot be.

    Exits count the layers before them: ascending, at least 1, less than all.
    """
    if is_recurrent(model):
        raise CompileError(
            "E0106",
            "the state of a recurrent layer needs every token, so that none may leave before it",
            [("model", model.config.model_type), ("exits", ", ".join(map(str, exits)))],
            "compile without exits",
        )
    count: int = model.config.num_hidden_layers
    decoder = model.get_decoder()
    lists = [m for m in decoder.children() if isinstance(m, torch.nn.ModuleList)]
    found = [list(each) for each in lists if len(each) == count]
    if len(found) != 1:
        raise CompileError(
            "E0106",
            "the layers of the model are not found",
            [("model", type(model).__name__), ("looked for", f"one ModuleList of {count} layers")],
            "compile without exits",
        )
    if list(exits) != sorted(set(exits)) or not all(1 <= each < count for each in exits):
        raise CompileError(
            "E0106",
            "exits are not behind layers of the model, in their order",
            [("exits", ", ".join(map(str, exits))), ("layers", count)],
            f"give ascending numbers from 1 to {count - 1}",
        )
    return found[0]


@contextmanager
def leaving(
    layers: Sequence[torch.nn.Module], tokens: torch.Tensor, staying: Mapping[int, torch.Tensor]
) -> Generator[None]:
    """Have tokens leave before layers: to ``staying[i] [S]``, of those that came to layer ``i``.

    ``tokens [T]`` tells their number. Behind the last layer each token has its place again, with
    the hidden state that it left with.
    """
    size = tokens.shape[0]
    # Hidden states before each exit, and the places that the tokens behind it had in them.
    left: list[tuple[torch.Tensor, torch.Tensor]] = []
    # The places, of all tokens, of those that are here still.
    here: list[torch.Tensor] = []

    def cut(value: Any) -> Any:
        """A layer's argument for the tokens that are here: any that has all of them on an axis."""
        if isinstance(value, torch.Tensor):
            for axis, n in enumerate(value.shape):
                value = value.index_select(axis, here[-1]) if _same(n, size) else value
        return value

    def enter(number: int) -> Any:
        def hook(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x, *others = args
            if number in staying:
                places = staying[number]
                left.append((x, places))
                x = torch.ops.tapeout.stay(x, places)
                here.append(here[-1].index_select(0, places) if here else places)
            return (x, *pytree.tree_map(cut, others)), pytree.tree_map(cut, kwargs)

        return hook

    def leave(_: torch.nn.Module, args: tuple[Any, ...], y: torch.Tensor) -> torch.Tensor:
        for x, places in reversed(left):
            y = x[0].index_copy(0, places, y[0])[None]
        return y

    first = min(staying, default=len(layers))
    hooks = [
        layer.register_forward_pre_hook(enter(first + i), with_kwargs=True)
        for i, layer in enumerate(layers[first:])
    ]
    hooks += [layer.register_forward_hook(leave) for layer in layers[-1:]]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _same(a: Any, b: Any) -> bool:
    """Whether two sizes are one symbol; comparing them would decide it for all sizes."""
    both = isinstance(a, torch.SymInt) and isinstance(b, torch.SymInt)
    return both and a.node.expr == b.node.expr
