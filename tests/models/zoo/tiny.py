"""One very small model for each of many architectures: breadth, where the other families are depth.

Each is exported with its batch and its lengths open. Further arrays: ``small.npz`` and
``large.npz`` hold the inputs at two other sizes.
"""

# The libraries used here are only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from .export import OPSET
from .recipe import Made, Recipe
from .tiny_modules import (
    Denoiser,
    Detector,
    MessagePassing,
    Recommender,
    Tagger,
    Vocoder,
)
from .weights import randomise

Inputs = dict[str, torch.Tensor]
Axes = Mapping[str, tuple[int, ...]]
Sizes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

VOCABULARY = 99
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
}
TEXT = SMALL | {"vocab_size": VOCABULARY}


@dataclass(frozen=True)
class Architecture:
    """``inputs(batch, length)`` draws inputs; ``axes`` are those of each input that stay open."""

    module: Callable[[], nn.Module]
    inputs: Callable[[int, int], Inputs]
    axes: Axes
    sizes: Sizes = ((2, 7), (1, 1), (3, 20))


def make(recipe: Recipe, folder: Path) -> Made:
    """Write the model, with inputs of three sizes; the first is the one that it is traced with."""
    chosen = ARCHITECTURES[recipe.name.removeprefix("tiny-")]
    torch.manual_seed(21)
    module = chosen.module().eval()
    randomise(module, seed=22)
    _disturb_statistics(module)
    traced, small, large = (chosen.inputs(*size) for size in chosen.sizes)
    _export(module, traced, chosen.axes, folder / "model.onnx")
    return Made(_arrays(traced), arrays={"small": _arrays(small), "large": _arrays(large)})


def _export(module: nn.Module, inputs: Inputs, axes: Axes, path: Path) -> None:
    open_axes = {
        name: dict.fromkeys(axes.get(name, ()), torch.export.Dim.DYNAMIC) for name in inputs
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # "torchvision is not installed", and guards of tracing
        torch.onnx.export(
            module,
            (),
            str(path),
            kwargs=inputs,
            input_names=list(inputs),
            dynamic_shapes=open_axes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        logging.disable(logging.NOTSET)


def _arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}


def _disturb_statistics(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(23)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.7, 1.4, generator=generator)


class Decoder(nn.Module):
    """A step of generation: new tokens, and the keys and values of those before as plain inputs."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model of one layer."""
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, mask: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return logits, and the grown keys and values."""
        cache = transformers.DynamicCache()
        cache.update(keys, values, 0)
        made = self.model(
            input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        layer = made.past_key_values.layers[0]
        return made.logits, layer.keys, layer.values


def _tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, length))


def _text(batch: int, length: int) -> Inputs:
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[-1, (length + 1) // 2 :] = 0
    return {"input_ids": _tokens(batch, length), "attention_mask": mask}


def _step(batch: int, length: int) -> Inputs:
    past = (batch, 2, length, 8)
    return {
        "input_ids": _tokens(batch, 2),
        "mask": torch.ones(batch, length + 2, dtype=torch.int64),
        "keys": torch.randn(past),
        "values": torch.randn(past),
    }


def _built(family: str, head: str, **given: Any) -> Any:
    config = getattr(transformers, f"{family}Config")(**given)
    return getattr(transformers, family + head)(config)


def _llama() -> nn.Module:
    return Decoder(_built("Llama", "ForCausalLM", **TEXT, num_key_value_heads=2))


def _mixtral() -> nn.Module:
    sizes = TEXT | {"num_key_value_heads": 2, "num_local_experts": 4}
    model = _built("Mixtral", "ForCausalLM", **sizes, use_cache=False)
    # The exporter has no grouped product; this form gathers the experts' weights instead.
    model.set_experts_implementation("batched_mm")
    return model


def _deberta() -> nn.Module:
    relative = {"relative_attention": True, "position_buckets": 8, "share_att_key": True}
    terms = {"pos_att_type": ["p2c", "c2p"], "max_position_embeddings": 64}
    return _built("DebertaV2", "Model", **TEXT, **relative, **terms)


def _mamba() -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": VOCABULARY}
    heads = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4}
    return _built("Mamba2", "ForCausalLM", **sizes, **heads, use_cache=False)


def _wav2vec() -> nn.Module:
    front = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
    position = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    return _built("Wav2Vec2", "ForCTC", **SMALL, **front, **position, vocab_size=32)


def _swin() -> nn.Module:
    windows = {"image_size": 16, "patch_size": 2, "window_size": 4}
    return _built("Swin", "Model", **windows, embed_dim=8, depths=[2], num_heads=[2])


def _image(side: int) -> Callable[[int, int], Inputs]:
    return lambda batch, _: {"pixel_values": torch.randn(batch, 3, side, side)}


def _latents(batch: int, length: int) -> Inputs:
    return {
        "latents": torch.randn(batch, 4, 2 * length, 8),
        "time": torch.rand(batch),
        "context": torch.randn(batch, length, 8),
    }


def _graph(nodes: int, edges: int) -> Inputs:
    return {"features": torch.randn(nodes, 6), "edges": torch.randint(0, nodes, (2, edges))}


IDS = {"input_ids": (0, 1)}
ARCHITECTURES: Mapping[str, Architecture] = {
    "llama-step": Architecture(
        _llama, _step, {"input_ids": (0,), "mask": (0, 1), "keys": (0, 2), "values": (0, 2)}
    ),
    "mixtral": Architecture(_mixtral, _text, {**IDS, "attention_mask": (0, 1)}),
    "deberta": Architecture(_deberta, _text, {**IDS, "attention_mask": (0, 1)}),
    "mamba2": Architecture(_mamba, lambda b, n: {"input_ids": _tokens(b, n)}, IDS),
    "wav2vec2": Architecture(
        _wav2vec,
        lambda b, n: {"input_values": torch.randn(b, 100 * n)},
        {"input_values": (0, 1)},
    ),
    "swin": Architecture(_swin, _image(16), {"pixel_values": (0,)}),
    "detector": Architecture(Detector, _image(32), {"pixel_values": (0,)}),
    "denoiser": Architecture(
        Denoiser, _latents, {"latents": (0, 2), "time": (0,), "context": (0, 1)}
    ),
    "vocoder": Architecture(
        Vocoder, lambda b, n: {"spectrogram": torch.randn(b, 8, n)}, {"spectrogram": (0, 2)}
    ),
    "tagger": Architecture(Tagger, lambda b, n: {"tokens": _tokens(b, n)}, {"tokens": (0, 1)}),
    "graph": Architecture(
        MessagePassing, _graph, {"features": (0,), "edges": (1,)}, ((9, 20), (1, 1), (30, 7))
    ),
    "recommender": Architecture(
        Recommender,
        lambda b, _: {"numbers": torch.randn(b, 5), "choices": torch.randint(0, 20, (b, 3))},
        {"numbers": (0,), "choices": (0,)},
    ),
}
