"""Hidden states and heads that guess ahead: outputs of a language model beside its logits."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import tapeout
from tapeout.ir.errors import CompileError
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.speculative import Guess, Heads, generate

from .small import ARCHITECTURES, SIZES, VOCABULARY, Array, prompt

WIDTH, HEADS = SIZES["hidden_size"], 3


class Block(nn.Module):
    """A residual block as Medusa has it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the block finds."""
        return x + nn.functional.silu(self.linear(x))


def medusa() -> nn.ModuleList:
    """Heads with random weights; one of them has two blocks."""
    torch.manual_seed(5)
    layers = [[Block(), nn.Linear(WIDTH, VOCABULARY, bias=False)] for _ in range(HEADS)]
    layers[1].insert(0, Block())
    return nn.ModuleList(nn.Sequential(*each) for each in layers)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A small Llama with both outputs."""
    folder = tmp_path_factory.mktemp("beside")
    save_file(medusa().state_dict(), folder / "heads.safetensors")
    path = tapeout.compile(
        ARCHITECTURES["llama"](),
        output=folder / "llama.tapeout",
        hidden=True,
        medusa=folder / "heads.safetensors",
    )
    return tapeout.load(path, threads=2)


def hidden_of(tokens: Array) -> Array:
    """What torch gives the model's last product."""
    with torch.no_grad():
        out: Any = ARCHITECTURES["llama"]().model(torch.from_numpy(tokens)[None], use_cache=False)
    return out.last_hidden_state[0].numpy()


def test_hidden_states_are_those_of_the_last_tokens(program: Program) -> None:
    prompts = [prompt(5), prompt(70)]
    session = program.decoding(batch=2, max_length=80)
    session.prefill(prompts)
    want = np.stack([hidden_of(tokens)[-1] for tokens in prompts])
    np.testing.assert_allclose(session.hidden, want, atol=1e-5)
    session.verify([[3, 4, 5], [6]])
    session.rollback([2, 0])
    grown = [np.append(prompts[0], 3), np.append(prompts[1], 6)]
    want = np.stack([hidden_of(tokens)[-1] for tokens in grown])
    np.testing.assert_allclose(session.hidden, want, atol=1e-5)


def test_hidden_states_that_no_run_gave_are_refused(program: Program) -> None:
    session = program.decoding(max_length=80)
    with pytest.raises(RunError, match="E0524"):
        _ = session.hidden
    session.prefill(prompt(5))
    with pytest.raises(RunError, match="E0524"):
        session.beside("nothing")
    with pytest.raises(RunError, match="E0524"):
        _ = session.fork().hidden
    session.truncate(3)
    with pytest.raises(RunError, match="E0524"):
        _ = session.hidden
    session.decode([4])
    want = hidden_of(np.append(prompt(5)[:3], 4))[-1]
    np.testing.assert_allclose(session.hidden[0], want, atol=1e-5)


def test_heads_guess_what_torch_says(program: Program) -> None:
    tokens = prompt(9)
    session = program.decoding(max_length=20)
    session.prefill(tokens)
    with torch.no_grad():
        state = torch.from_numpy(hidden_of(tokens)[-1])
        want = torch.stack([head(state) for head in medusa()]).numpy()
    np.testing.assert_allclose(session.beside("medusa")[0], want, atol=1e-5)
    chances = np.exp(want - want.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    found = Heads(session).guess([*tokens.tolist(), 1], 9)
    paths = [[guess.token for guess in path_to(found, i)] for i in range(9)]
    have = [np.prod([chances[i, t] for i, t in enumerate(path)]) for path in paths]
    every = [chances[0], np.outer(*chances[:2]), np.einsum("a,b,c->abc", *chances)]
    best = np.sort(np.concatenate([each.reshape(-1) for each in every]))[::-1]
    np.testing.assert_allclose(have, best[:9], rtol=1e-4)
    assert len({tuple(path) for path in paths}) == 9


def path_to(found: Sequence[Guess], i: int) -> list[Guess]:
    """A guess behind those that it follows."""
    parent = found[i].parent
    return [*(path_to(found, parent) if parent >= 0 else []), found[i]]


@pytest.mark.parametrize("ahead", [1, 3, 20])
def test_guesses_of_heads_change_nothing(program: Program, ahead: int) -> None:
    def text(guessing: bool) -> list[int]:
        session = program.decoding(max_length=100)
        draft = Heads(session) if guessing else None
        made = generate(session, prompt(12).tolist(), Sampler(), draft, ahead)
        return list(islice(made, 60))

    assert text(True) == text(False)


def test_what_a_tree_keeps_has_its_hidden_states(program: Program) -> None:
    prompts = [prompt(5), prompt(62)]
    session = program.decoding(batch=2, max_length=80)
    session.prefill(prompts)
    before = session.hidden
    session.verify([[3, 4, 5, 6], [7, 8]], [[-1, 0, 0, 2], [-1, -1]])
    np.testing.assert_array_equal(session.hidden, before)
    session.keep([[0, 2, 3], []])
    grown = np.append(prompts[0], [3, 5, 6])
    want = [hidden_of(grown)[-1], before[1]]
    np.testing.assert_allclose(session.hidden, want, atol=1e-5)
    session.rollback([1, 0])
    want = [hidden_of(grown)[-2], before[1]]
    np.testing.assert_allclose(session.hidden, want, atol=1e-5)


def test_files_that_hold_no_heads_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    weights = medusa().state_dict()

    def refused(given: dict[str, torch.Tensor] | bytes | None) -> str:
        path.unlink(missing_ok=True)
        if isinstance(given, bytes):
            path.write_bytes(given)
        elif given is not None:
            save_file(given, path)
        with pytest.raises(CompileError) as caught:
            tapeout.compile(ARCHITECTURES["llama"](), output=tmp_path / "a.tapeout", medusa=path)
        assert caught.value.code == "E0301"
        return str(caught.value)

    assert "does not exist" in refused(None)
    assert "no safetensors" in refused(b"{")
    assert "other.weight" in refused({**weights, "other.weight": torch.zeros(3)})
    assert "wanted" in refused({**weights, "0.1.weight": torch.zeros(3, WIDTH)})
    assert "no Medusa heads" in refused({})


def test_other_models_have_none(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="E0104"):
        tapeout.compile(
            nn.Linear(2, 2), args=(torch.zeros(1, 2),), output=tmp_path / "a.tapeout", hidden=True
        )
