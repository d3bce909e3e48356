"""Sizes of Llama-shaped models, and tokens for them: what a process needs that only runs one."""

from dataclasses import dataclass

import numpy as np

EPSILON = 1e-5
ROPE_THETA = 10000.0
UNKNOWN, BOS, EOS = 0, 1, 2
"""Tokens that a model must have; the 256 bytes follow."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama model; those of TinyLlama where nothing else is said."""

    hidden: int = 2048
    layers: int = 22
    heads: int = 32
    kv_heads: int = 4
    intermediate: int = 5632
    vocab: int = 32000
    context: int = 2048

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def name(self) -> str:
        return f"llama-{self.hidden}-{self.layers}"

    def config(self, dtype: str) -> dict[str, object]:
        """Return what ``config.json`` says, in the words of ``transformers``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": EPSILON,
            "rope_theta": ROPE_THETA,
            "tie_word_embeddings": False,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "torch_dtype": dtype,
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the sizes of all weights by their names in ``transformers``: ``[out, in]``."""
        d, kv = self.hidden, self.kv_heads * self.head_size
        layer = {
            "input_layernorm": (d,),
            "self_attn.q_proj": (d, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, d),
            "post_attention_layernorm": (d,),
            "mlp.gate_proj": (self.intermediate, d),
            "mlp.up_proj": (self.intermediate, d),
            "mlp.down_proj": (d, self.intermediate),
        }
        modules: dict[str, tuple[int, ...]] = {"model.embed_tokens": (self.vocab, d)}
        for i in range(self.layers):
            modules |= {f"model.layers.{i}.{name}": sizes for name, sizes in layer.items()}
        modules |= {"model.norm": (d,), "lm_head": (self.vocab, d)}
        return {f"{name}.weight": sizes for name, sizes in modules.items()}


SHAPES = {
    "tinyllama": Shape(),
    "tiny": Shape(hidden=64, layers=2, heads=4, kv_heads=2, intermediate=96, vocab=512),
}


def tokens(shape: Shape, count: int) -> np.ndarray:
    """Return ``[count]`` ordinary tokens, the same each time; more begin like fewer."""
    return np.random.default_rng(0).integers(EOS + 257, shape.vocab, count)
