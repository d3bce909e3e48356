"""Trees of guesses in sessions: what each path alone would give, and what is kept of them."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeout
from tapeout.ir.ops import paged
from tapeout.runtime import trees
from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.errors import RunError
from tapeout.runtime.program import Program
from tapeout.runtime.sampling import Sampler
from tapeout.runtime.speculative import Guess, generate

from .small import ARCHITECTURES, VOCABULARY, Array, prompt

CLOSE = 1e-4
"""Keys of a path stand elsewhere in the cache than in a tree, so sums round otherwise."""
DEEP = [*range(-1, 40), 3, 3, 42, -1, 44]
"""A long line, with branches from its middle, and a second root."""


def test_a_tree_fits_in_a_word() -> None:
    assert trees.TREE == paged.TREE


@pytest.fixture(scope="module", params=["llama", "gemma3", "gpt2"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A small model; that with windows has some as small as trees allow."""
    return compiled(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A small Llama."""
    return compiled("llama", tmp_path_factory.mktemp("llama"))


def compiled(name: str, folder: Path) -> Program:
    return tapeout.load(
        tapeout.compile(ARCHITECTURES[name](), output=folder / f"{name}.tapeout"), threads=2
    )


def branching(size: int, seed: int) -> list[int]:
    """Parents of a random tree, some of them the text."""
    random = np.random.default_rng([size, seed])
    return [int(random.integers(-1, i)) for i in range(size)]


def path_to(parents: Sequence[int], token: int) -> list[int]:
    """From a root to a token."""
    path = [token]
    while parents[path[0]] >= 0:
        path.insert(0, parents[path[0]])
    return path


def begun(program: Program, lengths: Sequence[int], **more: Any) -> DecodingSession:
    session = program.decoding(batch=len(lengths), max_length=250, **more)
    session.prefill([prompt(n, seed=i) for i, n in enumerate(lengths)])
    return session


def guesses(trees: Sequence[Sequence[int]]) -> list[Array]:
    return [prompt(len(tree), seed=9 + i) for i, tree in enumerate(trees)]


@pytest.mark.parametrize("lengths", [(60, 3, 128), (1, 90, 63)])
def test_a_tree_gives_the_logits_of_each_path_alone(
    program: Program, lengths: tuple[int, ...]
) -> None:
    trees = [branching(20, 1), DEEP, branching(7, 3)]
    tokens = guesses(trees)
    session = begun(program, lengths)
    assert session.trees
    have = session.verify(tokens, trees)
    assert session.lengths == lengths
    for s, parents in enumerate(trees):
        alone = program.decoding(max_length=250)
        alone.prefill(prompt(lengths[s], seed=s))
        for leaf in set(range(len(parents))) - set(parents):
            path = path_to(parents, leaf)
            (want,) = alone.verify([tokens[s][path]])
            alone.rollback(len(path))
            np.testing.assert_allclose(have[s][path], want, atol=CLOSE)


@pytest.mark.parametrize("lengths", [(60, 3, 128), (1, 90, 63)])
def test_what_is_kept_goes_on_as_the_path_alone(program: Program, lengths: tuple[int, ...]) -> None:
    trees = [branching(20, 1), DEEP, branching(7, 3)]
    tokens = guesses(trees)
    paths = [path_to(trees[0], 19), path_to(trees[1], 43), []]
    session = begun(program, lengths)
    session.verify(tokens, trees)
    session.keep(paths)
    alone = program.decoding(batch=3, max_length=250)
    texts = [prompt(n, seed=i) for i, n in enumerate(lengths)]
    alone.prefill([np.append(t, x[p]) for t, x, p in zip(texts, tokens, paths, strict=True)])
    assert session.lengths == alone.lengths
    assert session.pages.free == alone.pages.free
    for token in (5, 6, 7):
        want = alone.decode([token] * 3)
        np.testing.assert_allclose(session.decode([token] * 3), want, atol=CLOSE)


def test_a_tree_of_which_nothing_is_kept_leaves_no_trace(llama: Program) -> None:
    session, untouched = begun(llama, [60]), begun(llama, [60])
    free = session.pages.free
    for forget in (lambda: session.keep([]), lambda: session.truncate(60), lambda: None):
        session.verify(guesses([DEEP]), [DEEP])
        assert session.pages.free < free
        forget()
        np.testing.assert_array_equal(session.decode([5]), untouched.decode([5]))
        session.rollback(1)
        untouched.rollback(1)
        assert session.pages.free == free


def test_forks_do_not_see_a_tree(llama: Program) -> None:
    # The tree begins in a page that both hold, and is kept after the fork has written there.
    tokens, path = guesses([DEEP]), path_to(DEEP, 43)
    session, alone, untouched = (begun(llama, [60], pages=16) for _ in range(3))
    session.verify(tokens, [DEEP])
    fork = session.fork()
    np.testing.assert_array_equal(fork.decode([5]), untouched.decode([5]))
    session.keep(path)
    alone.verify([tokens[0][path]])
    np.testing.assert_allclose(session.decode([6]), alone.decode([6]), atol=CLOSE)
    np.testing.assert_array_equal(fork.decode([7]), untouched.decode([7]))
    fork.close()
    session.close()
    assert session.pages.free == 16


REFUSED: Sequence[tuple[str, str, Callable[[DecodingSession], Any]]] = (
    ("E0525", "too many", lambda s: s.verify([[1] * 65], [[-1] * 65])),
    ("E0525", "parent", lambda s: s.verify([[1, 2]], [[-1, 1]])),
    ("E0525", "parent", lambda s: s.verify([[1, 2]], [[-2, 0]])),
    ("E0525", "one parent", lambda s: s.verify([[1, 2]], [[-1]])),
    ("E0521", "not one", lambda s: s.verify([[1, 2]], [[-1, 0], [-1]])),
    ("E0521", "empty", lambda s: s.verify([[]], [[]])),
    ("E0521", "no such", lambda s: s.verify([[1, VOCABULARY]], [[-1, 0]])),
    ("E0525", "no path", lambda s: s.keep([[1]])),
    ("E0525", "no path", lambda s: s.keep([[0, 2]])),
    ("E0525", "no path", lambda s: s.keep([[0, 4]])),
    ("E0525", "no path", lambda s: s.keep([[-1]])),
    ("E0521", "not one", lambda s: s.keep([[0], [1]])),
)


@pytest.mark.parametrize(("code", "what", "act"), REFUSED)
def test_a_refusal_leaves_text_and_tree(
    llama: Program, code: str, what: str, act: Callable[[DecodingSession], Any]
) -> None:
    session, other = begun(llama, [62]), begun(llama, [62])
    for each in (session, other):
        each.verify([[1, 2, 3, 4]], [[-1, 0, 1, 0]])
    with pytest.raises(RunError, match=what) as refusal:
        act(session)
    assert refusal.value.code == code
    for each in (session, other):
        each.keep([[0, 3]])
    np.testing.assert_array_equal(session.decode([7]), other.decode([7]))


def test_a_full_cache_refuses_a_tree(llama: Program) -> None:
    session, other = begun(llama, [60], pages=1), begun(llama, [60], pages=1)
    with pytest.raises(RunError, match="E0520"):
        session.verify([[1] * 5], [[-1] * 5])
    np.testing.assert_array_equal(session.decode([7]), other.decode([7]))


def test_only_the_tree_of_the_last_run_can_be_kept(llama: Program) -> None:
    session = begun(llama, [10])
    for forget in (
        lambda: None,
        lambda: session.decode([1]),
        lambda: session.rollback(1),
        lambda: session.keep([0]),
    ):
        forget()
        with pytest.raises(RunError, match="E0525"):
            session.keep([0])
        session.verify([[1, 2]], [[-1, -1]])


@pytest.mark.parametrize("name", ["mistral", "mamba2"])
def test_programs_with_short_windows_or_recurrences_take_no_trees(
    name: str, tmp_path: Path
) -> None:
    session = compiled(name, tmp_path).decoding(max_length=100)
    session.prefill(prompt(20))
    assert not session.trees
    with pytest.raises(RunError, match="E0525"):
        session.verify([[1, 2]], [[-1, -1]])
    assert session.lengths == (20,)


class Bush:
    """The next tokens of a known text, and beside each of them others that are wrong."""

    def __init__(self, text: Sequence[int]) -> None:
        self.text, self.asked = text, 0

    def guess(self, tokens: Sequence[int], count: int) -> list[Guess]:
        """Every third guess right, the second child of the right one before."""
        self.asked += 1
        found, right = list[Guess](), -1
        for i in range(count):
            ahead = len(tokens) + i // 3
            token = self.text[ahead] if ahead < len(self.text) else 1
            parent = right
            if i % 3 == 1:
                right = i
            else:
                token = (token + 1 + i) % VOCABULARY
            found.append(Guess(token, np.eye(VOCABULARY)[token], parent))
        return found


def test_trees_of_guesses_change_no_token(program: Program) -> None:
    first = prompt(40).tolist()

    def text(draft: Bush | None) -> list[int]:
        session = program.decoding(max_length=250)
        return list(islice(generate(session, first, Sampler(), draft, ahead=16), 80))

    plain = text(None)
    draft = Bush([*first, *plain])
    assert text(draft) == plain
    # A step gives six tokens: five guesses that are right and the one behind them.
    assert draft.asked <= 80 / 6 + 1
