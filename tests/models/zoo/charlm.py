"""A language model over bytes, trained here on Python's own documentation.

Its blocks are those of today's language models in small: RMS norms, rotary positions, causal
attention without biases, a gated SiLU.

Further arrays: ``validation.npz`` holds ``windows``, the held-out text in rows of one more byte
than the context, and ``nll``, the nats that torch loses on each byte after a row's first;
``checkpoint`` is the model as ``transformers`` saves it, a Llama; ``calibration.npz`` is training
text under the input's name. ``info.json`` has the validation
``perplexity``, the ``bits_per_byte`` of it, and those of counting what follows two bytes.
"""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from .corpus import split_text
from .export import export, finite
from .ngram import BYTES, ngram_bits
from .recipe import Made, Recipe

WIDTH, HIDDEN, HEADS, LAYERS = 128, 384, 4, 4
CONTEXT = 128
ROTARY_BASE = 10_000.0

STEPS, WARM_UP, BATCH = 800, 50, 16
LEARNING_RATE, WEIGHT_DECAY, GRADIENT_NORM_MAX = 5e-3, 0.1, 1.0
CALIBRATION_WINDOWS = 32


class Attention(nn.Module):
    """Causal attention whose queries and keys are turned by their position."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        B, S, _ = x.shape
        heads = self.qkv(x).reshape(B, S, 3, HEADS, WIDTH // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = _turned(q, cos, sin), _turned(k, cos, sin)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(B, S, WIDTH))


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and MLP, each on a norm of what it adds to."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.RMSNorm(WIDTH, eps=1e-5)
        self.attention = Attention()
        self.before_mlp = nn.RMSNorm(WIDTH, eps=1e-5)
        self.mlp = GatedMLP()

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before_attention(x), cos, sin)
        return x + self.mlp(self.before_mlp(x))


class CharacterModel(nn.Module):
    """Bytes ``[B, S]`` to logits ``[B, S, 256]`` of the byte after each."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.head = nn.Linear(WIDTH, BYTES, bias=False)
        half = WIDTH // HEADS // 2
        turns = torch.outer(torch.arange(CONTEXT), ROTARY_BASE ** (-torch.arange(half) / half))
        self.register_buffer("cos", torch.cat([turns, turns], 1).cos())
        self.register_buffer("sin", torch.cat([turns, turns], 1).sin())

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def _initialise(model: nn.Module) -> None:
    """Give every layer outputs of about the size of its inputs, and the residual sum its share."""
    for name, parameter in model.named_parameters():
        if name == "embedding.weight":
            nn.init.normal_(parameter, std=0.02)
        elif parameter.dim() == 2:
            into_sum = name.endswith(("out.weight", "down.weight"))
            variance = 0.5 / parameter.shape[1] / (2 * LAYERS if into_sum else 1)
            nn.init.normal_(parameter, std=math.sqrt(variance))


def _train(model: nn.Module, text: bytes) -> None:
    """Adam on random windows; the rate rises for ``WARM_UP`` steps, then falls to 0 in a line."""
    tokens = _tokens(text)
    generator = torch.Generator().manual_seed(2)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "embedding.weight"]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or n == "embedding.weight"]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, LEARNING_RATE, (0.9, 0.98), weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / WARM_UP) * (1.0 - step / STEPS)
    )
    model.train()
    for _ in range(STEPS):
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH, 1), generator=generator)
        optimiser.zero_grad()
        _loss(model, tokens[starts + torch.arange(CONTEXT + 1)]).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM_MAX)
        optimiser.step()
        rate.step()
    model.eval()


def _loss(model: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Return the nats lost on every byte but the first of windows ``[N, S + 1]``: ``[N, S]``."""
    logits = model(windows[:, :-1])
    return functional.cross_entropy(logits.mT, windows[:, 1:], reduction="none")


def _tokens(text: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))


def _windows(text: bytes) -> torch.Tensor:
    """Return the text in rows of ``CONTEXT + 1``, each beginning with the last byte before it."""
    return _tokens(text).unfold(0, CONTEXT + 1, CONTEXT).contiguous()


def _save_checkpoint(model: CharacterModel, folder: Path) -> None:
    """Write the model as a Llama, which it is but for its names."""
    config = transformers.LlamaConfig(
        vocab_size=BYTES,
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        bos_token_id=None,
        eos_token_id=None,
    )
    held = model.state_dict()
    weights = {
        "model.embed_tokens.weight": held["embedding.weight"],
        "model.norm.weight": held["norm.weight"],
        "lm_head.weight": held["head.weight"],
    }
    for i in range(LAYERS):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        qkv = held[f"{ours}.attention.qkv.weight"].chunk(3)
        out = held[f"{ours}.attention.out.weight"]
        parts: dict[str, torch.Tensor] = dict(zip("qkvo", (*qkv, out), strict=True))
        weights |= {f"{theirs}.self_attn.{n}_proj.weight": w for n, w in parts.items()}
        for part in ("gate", "up", "down"):
            weights[f"{theirs}.mlp.{part}_proj.weight"] = held[f"{ours}.mlp.{part}.weight"]
        weights[f"{theirs}.input_layernorm.weight"] = held[f"{ours}.before_attention.weight"]
        weights[f"{theirs}.post_attention_layernorm.weight"] = held[f"{ours}.before_mlp.weight"]
    llama = transformers.LlamaForCausalLM(config)
    llama.load_state_dict(weights)
    llama.save_pretrained(folder)


def make(recipe: Recipe, folder: Path) -> Made:
    """Train and write the model."""
    torch.manual_seed(1)
    train, validation = split_text()
    model = CharacterModel()
    _initialise(model)
    _train(model, train)
    windows = _windows(validation)
    with torch.no_grad():
        nll = finite(torch.cat([_loss(model, part) for part in windows.split(BATCH)]))
    _save_checkpoint(model, folder / "checkpoint")
    made = export(
        model,
        folder,
        {"input_ids": windows[:3, :-1].contiguous()},
        ["logits"],
        dims=recipe.dims,
        axes=("B", "S"),
        sample={"input_ids": windows[:1, :-1].contiguous()},
    )
    known = _windows(train)
    calibration = known[:: len(known) // CALIBRATION_WINDOWS][:CALIBRATION_WINDOWS, :-1]
    loss = float(nll.mean(dtype=np.float64))
    return Made(
        made.inputs,
        made.flop,
        {
            "validation": {"windows": windows.numpy(), "nll": nll},
            "calibration": {"input_ids": np.ascontiguousarray(calibration.numpy())},
        },
        {
            "perplexity": math.exp(loss),
            "bits_per_byte": loss / math.log(2),
            "ngram_bits_per_byte": ngram_bits(train, validation),
        },
    )
