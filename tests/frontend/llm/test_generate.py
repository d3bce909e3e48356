"""Text from the command line: tokenizer, streaming, guesses that change nothing, refusals."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import tapeout
from tapeout.frontend.cli import main

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved checkpoint, its artifact, a smaller draft, and a tokenizer of single bytes."""
    folder = tmp_path_factory.mktemp("generate")
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(ALPHABET)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    made = {"tokenizer": folder / "tokenizer.json"}
    for name, layers in (("model", 2), ("draft", 1)):
        torch.manual_seed(layers)
        config = transformers.LlamaConfig(
            hidden_size=32,
            num_hidden_layers=layers,
            vocab_size=len(ALPHABET),
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=48,
        )
        model: Any = transformers.LlamaForCausalLM(config)
        model.save_pretrained(folder / name)
        exits = [1] if name == "model" else []
        made[name] = tapeout.compile(folder / name, output=folder / f"{name}.tapeout", exits=exits)
    return made


def text(files: dict[str, Path], *options: str) -> str:
    arguments = ["generate", str(files["model"]), "--prompt", "Once upon", "--tokens", "40"]
    result = CliRunner().invoke(
        main, [*arguments, "--tokenizer", str(files["tokenizer"]), *options]
    )
    assert result.exit_code == 0, result.output
    assert "a second" in result.stderr
    return result.stdout


def test_text_goes_on_after_the_prompt(files: dict[str, Path]) -> None:
    found = text(files)
    assert found.startswith("Once upon")
    assert len(found) > len("Once upon\n")


def test_guesses_change_nothing(files: dict[str, Path]) -> None:
    plain = text(files)
    assert text(files, "--lookup") == plain
    assert text(files, "--draft", str(files["draft"]), "--ahead", "3") == plain
    assert text(files, "--draft-exit", "1", "--ahead", "3") == plain


def test_a_seed_gives_the_same_text_again(files: dict[str, Path]) -> None:
    drawn = [text(files, "--temperature", "1", "--seed", seed) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--tokenizer", "nowhere.json"], "E0301"),
        (["--temperature", "-1"], "E0522"),
        (["--top-p", "0"], "E0522"),
        (["--draft-exit", "2"], "E0526"),
    ],
)
def test_what_cannot_be_is_refused(files: dict[str, Path], options: list[str], code: str) -> None:
    arguments = ["generate", str(files["model"]), "--prompt", "x"]
    arguments += ["--tokenizer", str(files["tokenizer"]), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert code in result.output + result.stderr


def test_a_checkpoint_with_a_cut_file_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    folder = files["model"].parent / "model"
    for file in folder.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(
            data[: len(data) // 2] if file.suffix == ".safetensors" else data
        )
    result = CliRunner().invoke(main, ["compile", str(tmp_path)])
    assert result.exit_code == 1
    assert "E0301" in result.output + result.stderr
