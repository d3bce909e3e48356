"""The language model: one artifact for every length, and a text judged as it is read."""

import pydoc_data.topics
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import tapeout
from tapeout.frontend.cli import main

pytestmark = pytest.mark.models


def test_one_artifact_runs_every_batch_and_length(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path], assert_agrees: Callable[..., None]
) -> None:
    windows = zoo("charlm").arrays("validation")["windows"]
    with tapeout.load(compiled("charlm"), threads=2) as program:
        for batch, length in [(1, 1), (1, 2), (2, 17), (3, 127), (64, 5), (64, 128)]:
            inputs = {"input_ids": np.ascontiguousarray(windows[:batch, :length])}
            assert_agrees(program.run(inputs), zoo("charlm").reference(inputs))


def test_what_comes_later_changes_nothing_before(
    zoo: Callable[[str], Any], compiled: Callable[[str], Path]
) -> None:
    window = zoo("charlm").arrays("validation")["windows"][:1, :-1]
    with tapeout.load(compiled("charlm"), threads=2) as program:
        whole = program.run({"input_ids": np.ascontiguousarray(window)})["logits"]
        for length in (1, 40, 127):
            part = program.run({"input_ids": np.ascontiguousarray(window[:, :length])})["logits"]
            np.testing.assert_allclose(whole[:, :length], part, atol=1e-4)


@pytest.fixture(scope="module")
def decoder(zoo: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's checkpoint as a program that decodes."""
    output = tmp_path_factory.mktemp("charlm") / "decoder.tapeout"
    return tapeout.compile(zoo("charlm").folder / "checkpoint", output=output)


def test_the_decoder_is_as_sure_of_a_text_as_torch(
    zoo: Callable[[str], Any], decoder: Path
) -> None:
    """Perplexity of held-out text, read by a session as prompts and one byte after the other."""
    held = zoo("charlm").arrays("validation")
    windows, nll = held["windows"][:96], held["nll"][:96].mean(dtype=np.float64)
    with tapeout.load(decoder) as program:
        session = program.decoding(batch=8, max_length=windows.shape[1])
        whole = list[Any]()
        for part in np.split(windows, len(windows) // session.batch):
            session.reset()
            whole += session.verify([row[:-1] for row in part])
        assert np.exp(_nats(np.stack(whole), windows[:, 1:])) == pytest.approx(
            np.exp(nll), rel=1e-4
        )
        session.reset()
        rows = windows[: session.batch]
        steps = [session.decode(column) for column in rows[:, :-1].T]
        one_by_one = _nats(np.stack(steps, 1), rows[:, 1:])
        torch_says = held["nll"][: session.batch].mean(dtype=np.float64)
        assert np.exp(one_by_one) == pytest.approx(np.exp(torch_says), rel=1e-4)


def test_generate_goes_on_with_words_of_the_text(decoder: Path, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    _tokenizer_of_bytes().save(str(tokenizer))
    options = ["--prompt", "The value of", "--tokens", "110", "--tokenizer", str(tokenizer)]
    result = CliRunner().invoke(main, ["generate", str(decoder), *options])
    assert result.exit_code == 0, result.output
    known = set(re.findall(r"\w+", " ".join(pydoc_data.topics.topics.values())))
    # The last word may be cut.
    words = re.findall(r"\w+", result.stdout)[:-1]
    assert len(words) > 12
    assert sum(word in known for word in words) > 0.8 * len(words), result.stdout


def _nats(logits: np.ndarray, tokens: np.ndarray) -> float:
    """What ``logits [N, S, 256]`` lose on ``tokens [N, S]``, on average."""
    wide = logits.astype(np.float64)
    chosen = np.take_along_axis(wide, tokens[..., None], -1)[..., 0]
    return float((np.logaddexp.reduce(wide, -1) - chosen).mean())


def _tokenizer_of_bytes() -> Tokenizer:
    """Bytes as tokens, by their own numbers, under the characters that byte-level BPE writes."""
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in shown)
    characters = {byte: chr(byte) for byte in shown}
    characters |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    # Its stubs let nothing be assigned to these two.
    tokenizer: Any = Tokenizer(models.BPE({c: byte for byte, c in characters.items()}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
