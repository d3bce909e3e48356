"""Small language models with random weights, one of each architecture, and how they are asked."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import transformers

from tapeout.runtime.decoding import DecodingSession
from tapeout.runtime.trees import TREE

Array = np.ndarray[Any, Any]

VOCABULARY = 99
SIZES = {
    "hidden_size": 32,
    "vocab_size": VOCABULARY,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
GPT2 = {"n_embd": 32, "n_head": 2, "vocab_size": VOCABULARY}
STATE_SPACE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_chunk_size": 16,
}
WINDOW = 40
"""Slots of a sliding window: less than a page, so that pages fall out of it."""


def _made(model: str, config: str, depth: int = 2, **more: Any) -> Callable[..., Any]:
    def make(layers: int = depth) -> Any:
        sizes = GPT2 if config == "GPT2Config" else SIZES | more
        sizes = sizes | {"n_layer" if config == "GPT2Config" else "num_hidden_layers": layers}
        torch.manual_seed(0)
        return getattr(transformers, model)(getattr(transformers, config)(**sizes)).eval()

    return make


ARCHITECTURES: Mapping[str, Callable[..., Any]] = {
    "llama": _made("LlamaForCausalLM", "LlamaConfig"),
    "qwen3": _made("Qwen3ForCausalLM", "Qwen3Config", head_dim=8),
    "gemma3": _made("Gemma3ForCausalLM", "Gemma3TextConfig", head_dim=8, sliding_window=TREE),
    "gpt2": _made("GPT2LMHeadModel", "GPT2Config"),
    "mistral": _made("MistralForCausalLM", "MistralConfig", sliding_window=WINDOW),
    "phi3": _made("Phi3ForCausalLM", "Phi3Config"),
    "mixtral": _made("MixtralForCausalLM", "MixtralConfig"),
    "qwen3moe": _made(
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        head_dim=8,
        num_experts=16,
        num_experts_per_tok=4,
        moe_intermediate_size=24,
    ),
    "mamba2": _made(
        "Mamba2ForCausalLM",
        "Mamba2Config",
        num_heads=8,
        head_dim=8,
        n_groups=2,
        state_size=16,
        chunk_size=16,
    ),
    # Both kinds of layers, or both in each layer.
    "bamba": _made("BambaForCausalLM", "BambaConfig", **STATE_SPACE, attn_layer_indices=[1]),
    "granite4": _made(
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        **STATE_SPACE,
        layer_types=["mamba", "attention"],
        shared_intermediate_size=48,
        num_local_experts=8,
    ),
    "falconh1": _made("FalconH1ForCausalLM", "FalconH1Config", **STATE_SPACE, mamba_d_ssm=64),
    "nemotronh": _made(
        "NemotronHForCausalLM",
        "NemotronHConfig",
        depth=4,
        layers_block_type=["mamba", "moe", "attention", "mlp"],
        head_dim=8,
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=2,
        ssm_state_size=16,
        chunk_size=16,
        moe_intermediate_size=24,
        moe_shared_expert_intermediate_size=24,
    ),
    "lfm2": _made("Lfm2ForCausalLM", "Lfm2Config", layer_types=["conv", "full_attention"]),
    "lfm2moe": _made(
        "Lfm2MoeForCausalLM",
        "Lfm2MoeConfig",
        layer_types=["conv", "full_attention"],
        num_dense_layers=1,
        num_experts=8,
        moe_intermediate_size=24,
    ),
}


def prompt(length: int, seed: int = 0) -> Array:
    """Random tokens, none of them the padding."""
    return np.random.default_rng([length, seed]).integers(1, VOCABULARY, length)


def greedy(session: DecodingSession, tokens: Array, count: int) -> list[int]:
    """The likeliest token after the likeliest token."""
    found: list[int] = []
    logits = session.prefill(tokens)
    for _ in range(count):
        found.append(int(logits[0].argmax()))
        logits = session.decode([found[-1]])
    return found


def greedy_by_torch(model: Any, tokens: Array, count: int) -> tuple[Array, Array]:
    """The text that ``transformers`` writes, prompt and all, and the logits after each token."""
    ids = torch.from_numpy(tokens)[None]
    with torch.no_grad():
        text = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0]
        logits = model(input_ids=text[None], use_cache=False).logits[0]
    return text.numpy(), logits.numpy()
