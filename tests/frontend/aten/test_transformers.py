"""Architectures of ``transformers`` at small sizes: exported, imported, evaluated, compiled."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

import tapeout
from tapeout.frontend.aten.element_types import array_of
from tapeout.frontend.aten.export import Exported, exported
from tapeout.frontend.aten.importer import import_program
from tapeout.ir.evaluator import evaluate

Array = np.ndarray[Any, Any]
Inputs = dict[str, torch.Tensor]

WIDTH: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
DECODER: dict[str, Any] = {
    **WIDTH,
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "use_cache": False,
}
IMAGE: dict[str, Any] = {"image_size": 32, "patch_size": 8}


def words() -> Inputs:
    """Two rows of seven tokens, the second padded."""
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": torch.arange(14).reshape(2, 7) * 5 % 64, "attention_mask": mask}


def picture() -> Inputs:
    return {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()}


def bert() -> tuple[Any, Inputs]:
    config = tf.BertConfig(**WIDTH, intermediate_size=48, vocab_size=64)
    return tf.BertModel(config), words()


def vit() -> tuple[Any, Inputs]:
    return tf.ViTModel(tf.ViTConfig(**WIDTH, **IMAGE, intermediate_size=48)), picture()


def convnext() -> tuple[Any, Inputs]:
    config = tf.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])
    return tf.ConvNextModel(config), picture()


def swin() -> tuple[Any, Inputs]:
    sizes: dict[str, Any] = {"patch_size": 4, "window_size": 4, "embed_dim": 8}
    config = tf.SwinConfig(image_size=32, depths=[2, 2], num_heads=[2, 4], **sizes)
    return tf.SwinModel(config), picture()


def whisper() -> tuple[Any, Inputs]:
    layers: dict[str, Any] = {f"{part}_layers": 1 for part in ("encoder", "decoder")}
    heads: dict[str, Any] = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    wide: dict[str, Any] = {f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")}
    rest: dict[str, Any] = {
        "d_model": 16,
        "max_source_positions": 10,
        "vocab_size": 64,
        "use_cache": False,
    }
    ends: dict[str, Any] = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    config = tf.WhisperConfig(**layers, **heads, **wide, **rest, **ends)
    sound = torch.linspace(-1, 1, 2 * 80 * 20).reshape(2, 80, 20).cos()
    return tf.WhisperModel(config), {
        "input_features": sound,
        "decoder_input_ids": words()["input_ids"],
    }


def t5() -> tuple[Any, Inputs]:
    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    config = tf.T5Config(**sizes, vocab_size=64, use_cache=False)
    return tf.T5Model(config), {**words(), "decoder_input_ids": words()["input_ids"]}


def gpt2() -> tuple[Any, Inputs]:
    sizes: dict[str, Any] = {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "vocab_size": 64,
    }
    return tf.GPT2LMHeadModel(tf.GPT2Config(**sizes, use_cache=False)), words()


def llama() -> tuple[Any, Inputs]:
    return tf.LlamaForCausalLM(tf.LlamaConfig(**DECODER)), words()


def qwen3() -> tuple[Any, Inputs]:
    return tf.Qwen3ForCausalLM(tf.Qwen3Config(**DECODER, head_dim=8)), words()


def gemma3() -> tuple[Any, Inputs]:
    config = tf.Gemma3TextConfig(**DECODER, head_dim=8, sliding_window=4)
    return tf.Gemma3ForCausalLM(config), words()


def mistral() -> tuple[Any, Inputs]:
    return tf.MistralForCausalLM(tf.MistralConfig(**DECODER, sliding_window=4)), words()


def phi3() -> tuple[Any, Inputs]:
    return tf.Phi3ForCausalLM(tf.Phi3Config(**DECODER, pad_token_id=0)), words()


def mixtral() -> tuple[Any, Inputs]:
    config = tf.MixtralConfig(**DECODER, num_local_experts=4, num_experts_per_tok=2)
    return tf.MixtralForCausalLM(config), words()


MODELS = (
    *(bert, vit, convnext, swin, whisper, t5, gpt2),
    *(llama, qwen3, gemma3, mistral, phi3, mixtral),
)
COMPILED = (bert, convnext, swin, whisper, t5, llama)


def prepared(make: Callable[[], tuple[Any, Inputs]]) -> tuple[Exported, Inputs, dict[str, Array]]:
    """A model's program, its inputs, and what it makes of them."""
    torch.manual_seed(0)
    model, inputs = make()
    model = model.eval()
    with torch.no_grad():
        wanted = {n: t.numpy() for n, t in model(**inputs).items() if isinstance(t, torch.Tensor)}
    return exported(model, (), inputs), inputs, wanted


@pytest.mark.parametrize("make", MODELS, ids=lambda f: f.__name__)
def test_a_model_of_transformers_means_what_it_means_in_torch(make: Callable[[], Any]):
    program, inputs, wanted = prepared(make)
    module = import_program(program)
    module.ir.verify()
    found = evaluate(module, {name: array_of(t) for name, t in inputs.items()})
    assert wanted.keys() <= found.keys()
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=2e-5, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("make", COMPILED, ids=lambda f: f.__name__)
def test_the_compiled_model_means_the_same(make: Callable[[], Any], tmp_path: Path):
    program, inputs, wanted = prepared(make)
    path = tapeout.compile(program.program, target="cpu", output=tmp_path / "m.tapeout")
    found = tapeout.load(path).run({name: array_of(t) for name, t in inputs.items()})
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=2e-4, atol=2e-5, err_msg=name)


def test_a_program_in_core_operators_alone_means_the_same():
    """``run_decompositions`` takes apart what the importer would rather see whole."""
    program, inputs, wanted = prepared(bert)
    module = import_program(Exported(program.program.run_decompositions()))
    found = evaluate(module, {name: array_of(t) for name, t in inputs.items()})
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=2e-5, atol=5e-6, err_msg=name)
