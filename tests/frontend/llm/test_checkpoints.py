"""Folders that ``transformers`` saved: read whole, or refused with what is wrong with them."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import tapeout
from tapeout.frontend.llm.checkpoint import model_of
from tapeout.ir.errors import CompileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in several shards."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    config = transformers.LlamaConfig(
        **sizes, vocab_size=64, intermediate_size=48, num_hidden_layers=2
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert len(shards(tmp_path / "model")) > 2
    return tmp_path / "model"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_shards_make_one_model(folder: Path, tmp_path: Path) -> None:
    wanted = {n: t for n, t in model_of(folder).named_parameters()}
    assert sum(t.numel() for t in wanted.values()) > 10_000
    with tapeout.load(tapeout.compile(folder, output=tmp_path / "m.tapeout")) as program:
        ids = torch.tensor([[1, 2, 3]])
        with torch.no_grad():
            right = model_of(folder)(ids).logits[0, -1].numpy()
        assert program.decoding().prefill([1, 2, 3])[0] == pytest.approx(right, abs=1e-5)


def test_weights_are_mapped_from_their_files(folder: Path) -> None:
    model = model_of(folder)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    named = [line[0].split("-") for line in lines if line[-1].endswith(".safetensors")]
    places = [range(int(first, 16), int(last, 16)) for first, last in named]
    assert all(any(t.data_ptr() in place for place in places) for t in model.parameters())


def lose(folder: Path) -> None:
    shards(folder)[1].unlink()


def cut(folder: Path) -> None:
    shard = shards(folder)[1]
    shard.write_bytes(shard.read_bytes()[:-100])


def overwrite(folder: Path) -> None:
    shards(folder)[0].write_bytes(b"\xff" * 64)


def misname(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    name = next(iter(told["weight_map"]))
    told["weight_map"][name] = "elsewhere.safetensors"
    index.write_text(json.dumps(told))


def unsettle(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"')


@pytest.mark.parametrize("harm", [lose, cut, overwrite, misname, unsettle])
def test_a_damaged_checkpoint_is_refused(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(folder)
    with pytest.raises(CompileError, match="E0301") as refusal:
        tapeout.compile(folder, output=folder.parent / "m.tapeout")
    assert str(folder) in str(refusal.value)
    assert not (folder.parent / "m.tapeout").exists()
