"""The real models that the tests and the benchmarks run.

This table is the whole list. A family is one file beside it, whose ``make`` is imported only when a
model must be made: torch and transformers take seconds to import.
"""

from pathlib import Path

from . import corpus, ngram, pairs
from .recipe import Recipe

MODULES = (Path(__file__).with_name("tiny_modules.py"),)

RECIPES: tuple[Recipe, ...] = (
    Recipe("resnet50", "resnet", "ResNet-50, 224x224, random weights"),
    Recipe("mobilenetv2", "mobilenet", "MobileNetV2 1.0, 224x224, random weights"),
    Recipe("vit-base", "vit", "ViT-base/16, 224x224, random weights"),
    Recipe("bert-base", "bert", "BERT-base, 128 tokens, random weights"),
    Recipe(
        "bert-base-dynamic",
        "bert",
        "BERT-base, any batch and length, random weights",
        {"B": (1, 16), "S": (1, 512)},
    ),
    Recipe(
        "minilm",
        "minilm",
        "all-MiniLM-L6-v2, trained, any batch and length",
        {"B": (1, 32), "S": (1, 512)},
        pairs.SOURCES,
    ),
    Recipe("gpt2", "gpt2", "GPT-2 124M with head, 128 tokens, random weights"),
    Recipe("digits", "digits", "CNN trained on 8x8 digits, any batch", {"B": (1, 512)}),
    Recipe("mlp", "digits", "MLP 64-64-64-10 trained on 8x8 digits"),
    Recipe(
        "charlm",
        "charlm",
        "language model over bytes, trained on Python's documentation, any batch and length",
        {"B": (1, 64), "S": (1, 128)},
        (*corpus.SOURCES, *ngram.SOURCES),
    ),
    *(
        Recipe(f"tiny-{name}", "tiny", f"{summary}, open sizes, random weights", {}, MODULES)
        for name, summary in {
            "llama-step": "a Llama decoding with keys and values of before",
            "mixtral": "a decoder with a mixture of experts",
            "deberta": "an encoder with attention to relative positions",
            "mamba2": "a state-space model",
            "wav2vec2": "convolutions over a wave, then an encoder",
            "swin": "attention in shifted windows of an image",
            "detector": "boxes from a feature pyramid",
            "denoiser": "a diffusion model's step",
            "vocoder": "a spectrogram to a wave",
            "tagger": "a bidirectional GRU",
            "graph": "messages over edges",
            "recommender": "embedded choices and their products",
        }.items()
    ),
    *(
        Recipe(f"light-{name}", "light", f"{name} from the onnx package, constant weights")
        for name in (
            *("bvlc-alexnet", "densenet121", "inception-v1", "inception-v2", "resnet50"),
            *("shufflenet", "squeezenet", "vgg19", "zfnet512"),
        )
    ),
)
