"""Language models as programs: tokens of ``transformers``, and the same bits on every road."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import tapeout
from tapeout.ir.errors import CompileError
from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.speculative import Lookup, generate

from .small import ARCHITECTURES, SIZES, VOCABULARY, greedy, greedy_by_torch, prompt

PROMPTS = (1, 7, 128, 513)
NEW = 64


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A small Llama."""
    return compiled("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module", params=["llama", "mamba2", "qwen3moe", "bamba", "granite4"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A small model that attends, one that does not, one with experts; both, and all of it."""
    return compiled(request.param, tmp_path_factory.mktemp(request.param))


def compiled(name: str, folder: Path) -> Program:
    return tapeout.load(
        tapeout.compile(ARCHITECTURES[name](), output=folder / f"{name}.tapeout"), threads=2
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_tokens_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model, loaded = ARCHITECTURES[name](), compiled(name, tmp_path)
    for length in PROMPTS:
        want, logits = greedy_by_torch(model, prompt(length), NEW)
        session = loaded.decoding(max_length=length + NEW)
        assert greedy(session, prompt(length), NEW) == want[length:].tolist()
        session.reset()
        (have,) = session.verify([want])
        np.testing.assert_allclose(have, logits, atol=1e-3)


def test_parts_of_a_prompt_give_the_bits_of_the_whole(either: Program) -> None:
    tokens = prompt(300)
    whole = either.decoding(max_length=400).verify([tokens])[0]
    for cuts in ([1], [64], [63, 64, 65], [100, 228], [299], list(range(10, 300, 10))):
        session = either.decoding(max_length=400)
        parts = [session.verify([part])[0] for part in np.split(tokens, cuts)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=str(cuts))


def test_parts_give_the_bits_of_the_whole_with_experts_in_few_bits(tmp_path: Path) -> None:
    made = tapeout.compile(
        ARCHITECTURES["qwen3moe"](), quantize="w4g8", output=tmp_path / "small.tapeout"
    )
    loaded, tokens = tapeout.load(made, threads=2), prompt(90)
    assert any("expert_grouped" in kernel.name for kernel in loaded.manifest.kernels)
    whole = loaded.decoding(max_length=128).verify([tokens])[0]
    session = loaded.decoding(max_length=128)
    parts = [session.verify([part])[0] for part in np.split(tokens, [1, 17, 60])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_chunks_of_a_long_text_give_the_bits_of_the_whole(program: Program) -> None:
    # Many tokens read their keys one chunk after the other, one token has all chunks at once.
    tokens = prompt(1100)
    whole = program.decoding(max_length=1200).verify([tokens])[0]
    session = program.decoding(max_length=1200)
    session.prefill(tokens[:1090])
    for i in range(1090, 1100):
        np.testing.assert_array_equal(session.decode([tokens[i]])[0], whole[i])


def test_a_ragged_batch_gives_the_bits_of_each_alone(either: Program) -> None:
    prompts = [prompt(n) for n in (3, 70, 129, 64)]
    session = either.decoding(batch=len(prompts), max_length=200)
    together = [session.prefill(prompts)]
    for _ in range(4):
        together.append(session.decode(together[-1].argmax(1)))
    for i, tokens in enumerate(prompts):
        single = either.decoding(max_length=200)
        logits = single.prefill(tokens)
        for each in together[:-1]:
            np.testing.assert_array_equal(logits[0], each[i])
            logits = single.decode(logits.argmax(1))
        np.testing.assert_array_equal(logits[0], together[-1][i])


@pytest.mark.parametrize("length", [5, 64, 100])
def test_a_fork_and_its_origin_do_not_see_each_other(either: Program, length: int) -> None:
    session = either.decoding(max_length=200, pages=8)
    session.prefill(prompt(length))
    fork = session.fork()
    mine = [session.decode([t]) for t in (1, 2, 3)]
    other = [fork.decode([t]) for t in (4, 5, 6)]
    for tokens, have in (((1, 2, 3), mine), ((4, 5, 6), other)):
        alone = either.decoding(max_length=200)
        alone.prefill(prompt(length))
        for token, logits in zip(tokens, have, strict=True):
            np.testing.assert_array_equal(alone.decode([token]), logits)


def test_forks_share_pages_until_they_write(program: Program) -> None:
    session = program.decoding(max_length=256, pages=6)
    session.prefill(prompt(130))
    assert session.pages.free == 3
    fork = session.fork()
    assert session.pages.free == 3
    fork.decode([1])
    assert session.pages.free == 2
    fork.close()
    assert session.pages.free == 3
    session.close()
    assert session.pages.free == 6


@pytest.mark.parametrize("count", [1, 3, 70])
def test_what_is_rolled_back_leaves_no_trace(either: Program, count: int) -> None:
    session = either.decoding(max_length=300)
    session.prefill(prompt(100))
    session.verify([prompt(count, seed=1)])
    session.rollback(count)
    assert session.lengths == (100,)
    untouched = either.decoding(max_length=300)
    untouched.prefill(prompt(100))
    np.testing.assert_array_equal(session.decode([5]), untouched.decode([5]))


def test_the_cache_takes_what_its_formula_says(program: Program) -> None:
    layers, groups, depth, page = 2, 2, 8, 64
    session = program.decoding(batch=3, max_length=100)
    pages = 3 * 2
    assert session.cache_bytes == layers * pages * groups * page * (depth + depth) * 4


def test_decoding_takes_no_memory(either: Program) -> None:
    session = either.decoding(max_length=200)
    session.prefill(prompt(100))
    session.decode([1])
    before = either.memory_bytes
    pools = held(session)
    for token in range(1, 60):
        session.decode([token])
    assert either.memory_bytes == before
    assert held(session) == pools


def held(session: DecodingSession) -> dict[str, int]:
    """Where the arrays of a session's cache lie."""
    return {name: array.ctypes.data for name, array in session.states.items()}


@pytest.mark.parametrize("kept", [0, 1, 4, 5])
def test_a_part_of_what_was_verified_stays(either: Program, kept: int) -> None:
    tokens, guesses = [prompt(n) for n in (20, 3)], [prompt(5, seed=1), prompt(2, seed=2)]
    session = either.decoding(batch=2, max_length=60)
    session.prefill(tokens)
    session.verify(guesses)
    session.truncate([20 + kept, 3])
    right = either.decoding(batch=2, max_length=60)
    right.prefill([np.concatenate([tokens[0], guesses[0][:kept]]), tokens[1]])
    assert session.lengths == right.lengths
    np.testing.assert_array_equal(session.decode([7, 8]), right.decode([7, 8]))


def test_guesses_change_nothing(either: Program) -> None:
    def text(draft: Lookup | None) -> list[int]:
        session = either.decoding(max_length=300)
        return list(islice(generate(session, prompt(40).tolist(), Sampler(), draft), 80))

    assert text(Lookup(VOCABULARY)) == text(None)


def test_a_recurrence_does_not_go_back_further(tmp_path: Path) -> None:
    program = compiled("mamba2", tmp_path)
    session, other = program.decoding(max_length=60), program.decoding(max_length=60)
    for each in (session, other):
        each.prefill(prompt(20))
    with pytest.raises(RunError, match="E0523"):
        session.rollback(1)
    assert session.lengths == (20,)
    np.testing.assert_array_equal(session.decode([7]), other.decode([7]))
    session.truncate(0)
    fresh = program.decoding(max_length=60)
    np.testing.assert_array_equal(session.prefill(prompt(9)), fresh.prefill(prompt(9)))


def test_the_states_of_recurrences_take_what_their_formula_says(tmp_path: Path) -> None:
    layers, heads, size, depth, taps, channels = 2, 8, 16, 8, 4, 64 + 2 * 2 * 16
    session = compiled("mamba2", tmp_path).decoding(batch=3, max_length=100)
    assert session.cache_bytes == layers * 3 * (heads * size * depth + (taps - 1) * channels) * 4


def test_states_of_both_kinds_take_what_their_formulas_say(tmp_path: Path) -> None:
    groups, depth, page, pages = 2, 8, 64, 3 * 2
    heads, size, inner, taps, channels = 8, 16, 8, 4, 64 + 2 * 2 * 16
    session = compiled("bamba", tmp_path).decoding(batch=3, max_length=100)
    paged = pages * groups * page * (depth + depth)
    assert session.cache_bytes == 4 * (paged + 3 * (heads * size * inner + (taps - 1) * channels))
    assert not session.trees


def test_other_recurrences_are_refused(tmp_path: Path) -> None:
    configs = (
        transformers.JambaConfig(
            **SIZES, num_hidden_layers=2, attn_layer_period=2, attn_layer_offset=1
        ),
        transformers.RwkvConfig(hidden_size=32, vocab_size=VOCABULARY, num_hidden_layers=2),
    )
    for config in configs:
        model = transformers.AutoModelForCausalLM.from_config(config)
        with pytest.raises(CompileError, match="recurrent layers") as caught:
            tapeout.compile(model, output=tmp_path / "a.tapeout")
        assert caught.value.code == "E0402"


class Renamed(transformers.BambaForCausalLM):
    """A model of somebody's own, whose layers are those of transformers."""


def test_the_recurrent_layers_of_a_derived_model_keep_their_state(tmp_path: Path) -> None:
    model = Renamed(ARCHITECTURES["bamba"]().config).eval()
    program = tapeout.load(tapeout.compile(model, output=tmp_path / "a.tapeout"))
    assert {name.split(".")[0] for name in program.decoding(max_length=9).states} == {
        *("keys", "values", "recall", "scan")
    }


BAD: Sequence[tuple[str, Callable[[DecodingSession], Any]]] = (
    ("E0521", lambda s: s.prefill(prompt(101))),
    ("E0521", lambda s: s.prefill([])),
    ("E0521", lambda s: s.prefill([[]])),
    ("E0521", lambda s: s.prefill([[1], [2]])),
    ("E0521", lambda s: s.decode([VOCABULARY])),
    ("E0521", lambda s: s.decode([-1])),
    ("E0521", lambda s: s.decode([1, 2])),
    ("E0521", lambda s: s.rollback(51)),
    ("E0521", lambda s: s.truncate(-1)),
)


@pytest.mark.parametrize(("code", "act"), BAD)
def test_a_refusal_leaves_the_session_as_it_was(
    either: Program, code: str, act: Callable[[DecodingSession], Any]
) -> None:
    session, other = either.decoding(max_length=100), either.decoding(max_length=100)
    session.prefill(prompt(50))
    other.prefill(prompt(50))
    with pytest.raises(RunError) as refusal:
        act(session)
    assert refusal.value.code == code
    np.testing.assert_array_equal(session.decode([7]), other.decode([7]))


def test_the_cache_of_another_program_is_refused(program: Program, tmp_path: Path) -> None:
    session, untouched = program.decoding(max_length=64), program.decoding(max_length=64)
    other = compiled("gpt2", tmp_path).decoding(max_length=64)
    for each in (session, untouched, other):
        each.prefill([1, 2, 3])
    before = {name: array.copy() for name, array in other.states.items()}
    long, short = (np.array([3], kind) for kind in (np.int64, np.int32))
    inputs = {"ids": long, "positions": long, "rows": 0 * long, "slots": long}
    inputs |= {"sequence": 0 * short, "end": short + 1, "table": np.zeros((1, 1), np.int32)}
    inputs |= {"tree": 0 * long}
    with pytest.raises(RunError, match="E0513"):
        program.run_on(inputs, other.states)
    for name, array in other.states.items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(session.decode([7]), untouched.decode([7]))


def test_a_full_cache_is_refused(program: Program) -> None:
    session = program.decoding(max_length=200, pages=2)
    session.prefill(prompt(128))
    kept = session.lengths
    with pytest.raises(RunError, match="E0520"):
        session.decode([1])
    assert session.lengths == kept
    session.rollback(1)
    session.decode([1])


def test_a_prompt_that_is_refused_holds_no_pages(program: Program) -> None:
    session = program.decoding(max_length=200, pages=3)
    with pytest.raises(RunError, match="E0520"):
        session.prefill(prompt(200))
    assert session.pages.free == 3


def test_a_session_has_a_size(program: Program) -> None:
    with pytest.raises(RunError, match="E0519"):
        program.decoding(batch=0)
