"""Tokens that leave a language model behind one of its first layers, and guesses made of them."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tapeout
from tapeout.ir.errors import CompileError
from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.speculative import EarlyExit, generate

from .small import ARCHITECTURES, VOCABULARY, Array, prompt

LAYERS, EXITS = 4, (1, 3)


def compiled(model: Any, folder: Path, **options: Any) -> Program:
    path = tapeout.compile(model, output=folder / "model.tapeout", **options)
    return tapeout.load(path, threads=2)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A small Llama with two exits."""
    model = ARCHITECTURES["llama"](LAYERS)
    return compiled(model, tmp_path_factory.mktemp("exits"), exits=EXITS)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same without exits."""
    return compiled(ARCHITECTURES["llama"](LAYERS), tmp_path_factory.mktemp("without"))


def truncated(model: Any, tokens: Array, layers: int) -> Array:
    """The logits that torch gives with the first layers alone: their output, norm and head."""
    decoder = model.get_decoder()
    norm = decoder.ln_f if hasattr(decoder, "ln_f") else decoder.norm
    with torch.no_grad():
        states = decoder(
            input_ids=torch.from_numpy(tokens)[None], use_cache=False, output_hidden_states=True
        ).hidden_states
        # transformers gives the last of them behind the norm.
        state = states[layers] if layers == LAYERS else norm(states[layers])
        return model.get_output_embeddings()(state)[0].numpy()


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "mistral", "mixtral"])
def test_an_exit_gives_the_logits_of_the_layers_before_it(name: str, tmp_path: Path) -> None:
    model = ARCHITECTURES[name](LAYERS)
    session = compiled(model, tmp_path, exits=EXITS).decoding(max_length=100)
    tokens = prompt(74)
    want = {layers: truncated(model, tokens, layers) for layers in (*EXITS, LAYERS)}
    session.prefill(tokens[:64])
    for at, number in ((64, 3), (65, 3), (66, 1), (67, 1)):
        logits = session.decode([tokens[at]], exit=number)
        np.testing.assert_allclose(logits[0], want[number][at], atol=1e-3)
    assert session.lengths == (64,)
    (logits,) = session.verify([tokens[64:]])
    np.testing.assert_allclose(logits, want[LAYERS][64:], atol=1e-3)


def test_runs_without_exits_give_the_bits_of_a_program_without(
    program: Program, without: Program
) -> None:
    session, plain = program.decoding(max_length=200), without.decoding(max_length=200)
    tokens = prompt(130)
    np.testing.assert_array_equal(session.prefill(tokens[:120]), plain.prefill(tokens[:120]))
    for at in range(120, 130):
        for guess, number in ((7, 3), (8, 1), (9, 1)):
            session.decode([guess], exit=number)
        np.testing.assert_array_equal(session.decode([tokens[at]]), plain.decode([tokens[at]]))
    assert session.lengths == plain.lengths == (130,)


def test_a_run_sees_the_tokens_that_came_as_far_as_it_goes(program: Program) -> None:
    session, other = program.decoding(max_length=40), program.decoding(max_length=40)
    for each in (session, other):
        each.prefill(prompt(20))
        each.decode([5], exit=3)
    session.decode([6], exit=1)
    # Another token in the place of the one that left before: it is forgotten.
    np.testing.assert_array_equal(session.decode([7], exit=3), other.decode([7], exit=3))
    np.testing.assert_array_equal(session.decode([8], exit=1), other.decode([8], exit=1))


def test_going_back_forgets_what_left(program: Program) -> None:
    session, other = program.decoding(max_length=40), program.decoding(max_length=40)
    for each in (session, other):
        each.prefill(prompt(20))
    session.decode([5], exit=1)
    session.rollback(0)
    np.testing.assert_array_equal(session.decode([6], exit=1), other.decode([6], exit=1))


def test_some_sequences_leave_and_others_go_on(program: Program) -> None:
    prompts = [prompt(5), prompt(70), prompt(9)]
    session = program.decoding(batch=3, max_length=80)
    session.prefill(prompts)
    logits = session.decode([1, 2, 3], exit=[1, None, 3])
    assert session.lengths == (5, 71, 9)
    for i, (tokens, number) in enumerate(zip(prompts, (1, None, 3), strict=True)):
        alone = program.decoding(max_length=80)
        alone.prefill(tokens)
        np.testing.assert_array_equal(logits[i], alone.decode([i + 1], exit=number)[0])


def test_a_fork_keeps_its_own_of_what_left(program: Program) -> None:
    session = program.decoding(max_length=200, pages=8)
    session.prefill(prompt(63))
    for token in (1, 2, 3):
        session.decode([token], exit=1)
    fork = session.fork()
    have = [each.decode([token], exit=1) for each, token in ((session, 4), (fork, 5))]
    for token, logits in zip((4, 5), have, strict=True):
        alone = program.decoding(max_length=200)
        alone.prefill(prompt(63))
        for each in (1, 2, 3):
            alone.decode([each], exit=1)
        np.testing.assert_array_equal(alone.decode([token], exit=1), logits)
    fork.close()
    session.close()
    assert session.pages.free == 8


def test_layers_behind_an_exit_do_nothing(program: Program) -> None:
    session = program.decoding(max_length=40)
    session.prefill(prompt(20))
    before = {name: array.copy() for name, array in session.states.items()}
    session.decode([5], exit=1)
    changed = {n for n, a in session.states.items() if (a != before[n]).any()}
    assert changed == {"keys.0", "values.0"}
    session.decode([5], exit=3)
    changed = {n for n, a in session.states.items() if (a != before[n]).any()}
    assert changed == {f"{kind}.{layer}" for kind in ("keys", "values") for layer in range(3)}


@pytest.mark.parametrize("number", EXITS)
def test_guesses_of_first_layers_change_nothing(
    program: Program, without: Program, number: int
) -> None:
    tokens = prompt(40).tolist()
    plain = generate(without.decoding(max_length=300), tokens, Sampler())
    session = program.decoding(max_length=300)
    made = generate(session, tokens, Sampler(), EarlyExit(session, Sampler(), number), ahead=3)
    assert list(islice(made, 200)) == list(islice(plain, 200))


def test_guesses_of_first_layers_fill_a_session(program: Program) -> None:
    session = program.decoding(max_length=30)
    made = generate(session, prompt(20).tolist(), Sampler(), EarlyExit(session, Sampler(), 1), 8)
    assert len(list(islice(made, 10))) == 10


BAD: Sequence[tuple[str, Callable[[DecodingSession], Any]]] = (
    ("E0526", lambda s: s.decode([1], exit=2)),
    ("E0526", lambda s: s.decode([1], exit=LAYERS)),
    ("E0521", lambda s: s.decode([1], exit=[1, 1])),
    ("E0521", lambda s: s.decode([VOCABULARY], exit=1)),
    ("E0521", lambda s: s.verify([prompt(80)])),
)


@pytest.mark.parametrize(("code", "act"), BAD)
def test_a_refusal_leaves_the_session_as_it_was(
    program: Program, code: str, act: Callable[[DecodingSession], Any]
) -> None:
    session, other = program.decoding(max_length=100), program.decoding(max_length=100)
    for each in (session, other):
        each.prefill(prompt(50))
        each.decode([4], exit=3)
    with pytest.raises(RunError) as refusal:
        act(session)
    assert refusal.value.code == code
    for number in (3, 1, None):
        have, want = (each.decode([7], exit=number) for each in (session, other))
        np.testing.assert_array_equal(have, want)


def test_a_program_without_exits_has_none(without: Program) -> None:
    session = without.decoding(max_length=20)
    session.prefill(prompt(5))
    with pytest.raises(RunError, match="E0526"):
        session.decode([1], exit=1)
    assert session.lengths == (5,)


@pytest.mark.parametrize("exits", [[0], [LAYERS], [2, 1], [1, 1], [-1]])
def test_exits_that_cannot_be_are_refused(exits: list[int], tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="E0106"):
        compiled(ARCHITECTURES["llama"](LAYERS), tmp_path, exits=exits)


def test_models_that_have_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="E0106"):
        compiled(ARCHITECTURES["mamba2"](), tmp_path, exits=[1])
    model = ARCHITECTURES["llama"](LAYERS)
    model.model.layers_too = model.model.layers
    del model.model.layers
    model.model.config.num_hidden_layers = LAYERS + 1
    with pytest.raises(CompileError, match="E0106"):
        compiled(model, tmp_path, exits=[1])
    with pytest.raises(CompileError, match="E0104"):
        compiled(torch.nn.Linear(2, 2), tmp_path, args=(torch.zeros(1, 2),), exits=[1])
