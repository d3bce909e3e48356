"""Buffers that a torch module changes become states: kept by sessions, written in place."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tapeout
from tapeout.frontend.aten.export import exported
from tapeout.frontend.aten.importer import import_program
from tapeout.ir.evaluator import evaluate
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program

LINES, WIDTH = 64, 8


class Lines(torch.nn.Module):
    """What all of them change."""

    lines: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lines", torch.zeros(LINES, WIDTH))


class Cache(Lines):
    """Two lines a run into a cache that is then read, as a key-value cache is."""

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.lines[at] = x
        return self.lines.sum(0)


class Twice(Lines):
    """Two writes in a row."""

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.lines[at] = x
        self.lines[at + 1] = 2 * x
        return self.lines.sum(0)


class Before(Lines):
    """What was there before the write is read after it."""

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        old = self.lines.clone()
        self.lines[at] = x
        return self.lines.sum(0) * (1 + old).sum(0)


class Shown(Lines):
    """What was there before is an output."""

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        old = self.lines.clone()
        self.lines[at] = x
        return old, self.lines * 1.0


class Own(Lines):
    """What is written is computed from what is there."""

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.lines[at] = x + self.lines[at + 2] + self.lines.sum(0)
        return self.lines[at]


class Swapped(torch.nn.Module):
    """Two states change places, and a third becomes an input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.arange(4.0))
        self.register_buffer("b", -torch.arange(4.0))
        self.register_buffer("last", torch.zeros(2, WIDTH))

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        a, b, last = self.a.clone(), self.b.clone(), self.last.clone()
        self.a.copy_(b)
        self.b.copy_(a)
        self.last.copy_(x)
        return (a - 2 * b).sum() + last.sum(0) + at.sum()


class Counter(torch.nn.Module):
    """A state that is a number, and one that no run changes the size of."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.tensor(3))
        self.register_buffer("mean", torch.ones(WIDTH))

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        self.mean.mul_(0.5).add_(x.mean(0))
        return self.mean * self.runs + at.sum()


MODELS: tuple[Callable[[], torch.nn.Module], ...] = (
    *(Cache, Twice, Before, Shown, Own),
    *(Swapped, Counter),
)


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two lines and where they go."""
    torch.manual_seed(seed)
    return torch.randn(2, WIDTH), torch.randperm(LINES // 4)[:2] * 4


def compiled(module: torch.nn.Module, folder: Path) -> Program:
    """The module as a loaded program."""
    path = tapeout.compile(module.eval(), args=draw(0), output=folder / "model.tapeout")
    return tapeout.load(path, threads=2)


def given(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """The same as :func:`draw`, by name."""
    x, at = draw(seed)
    return {"x": x.numpy(), "at": at.numpy()}


@pytest.mark.parametrize("kind", MODELS)
def test_states_are_what_torch_keeps(kind: Callable[[], torch.nn.Module], tmp_path: Path) -> None:
    session, eager = compiled(kind(), tmp_path).session(), kind().eval()
    for seed in range(4):
        want = eager(*draw(seed))
        have = session.run(given(seed))
        for a, b in zip(torch.utils._pytree.tree_leaves(want), have.values(), strict=True):
            np.testing.assert_allclose(b, a.numpy(), rtol=1e-5, atol=1e-5)
        for name, buffer in eager.named_buffers():
            state = session.states[name].reshape(tuple(buffer.shape))
            np.testing.assert_allclose(state, buffer.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", MODELS)
def test_the_evaluator_returns_states_as_outputs(kind: Callable[[], torch.nn.Module]) -> None:
    eager = kind().eval()
    module = import_program(exported(kind(), draw(0)))
    states = {n: b.numpy().copy() for n, b in eager.named_buffers()}
    for seed in range(2):
        made = evaluate(module, {**given(seed), **states})
        eager(*draw(seed))
        for name, buffer in eager.named_buffers():
            states[name] = made[name]
            np.testing.assert_allclose(made[name], buffer.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Cache, Twice])
def test_a_cache_is_written_in_place(kind: Callable[[], torch.nn.Module], tmp_path: Path) -> None:
    program = compiled(kind(), tmp_path)
    assert int(program.manifest.arena_bytes) < LINES * WIDTH * 4


def test_sessions_do_not_see_each_other(tmp_path: Path) -> None:
    program = compiled(Counter(), tmp_path)
    first, second = program.session(), program.session()
    first.run(given(1))
    first.run(given(2))
    second.run(given(1))
    assert int(first.states["runs"].reshape(())) == 5
    assert int(second.states["runs"].reshape(())) == 4


def test_a_fork_goes_its_own_way(tmp_path: Path) -> None:
    session = compiled(Counter(), tmp_path).session()
    session.run(given(1))
    fork = session.fork()
    alone = [session.run(given(s))["output"] for s in (2, 3)]
    other = fork.run(given(4))["output"]
    assert not np.array_equal(alone[0], other)
    assert int(fork.states["runs"].reshape(())) == 5


def test_a_reset_session_begins_anew(tmp_path: Path) -> None:
    session = compiled(Counter(), tmp_path).session()
    first = session.run(given(1))["output"].copy()
    session.run(given(2))
    session.reset()
    np.testing.assert_array_equal(session.run(given(1))["output"], first)


def test_a_refused_run_leaves_states_as_they_were(tmp_path: Path) -> None:
    session = compiled(Counter(), tmp_path).session()
    session.run(given(1))
    kept = {name: array.copy() for name, array in session.states.items()}
    with pytest.raises(RunError) as error:
        session.run({"x": np.zeros((3, WIDTH), np.float32), "at": np.zeros(2, np.int64)})
    assert error.value.code in ("E0512", "E0513", "E0514")
    for name, array in kept.items():
        np.testing.assert_array_equal(session.states[name], array)


def test_a_program_with_states_asks_for_a_session(tmp_path: Path) -> None:
    program = compiled(Counter(), tmp_path)
    with pytest.raises(RunError, match="E0519"):
        program.run(given(1))


def test_a_size_that_is_no_size_of_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="E0519"):
        compiled(Counter(), tmp_path).session(S=3)
