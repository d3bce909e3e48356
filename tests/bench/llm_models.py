"""Llama-shaped models with random weights, as checkpoints and as GGUF files, each made once.

A checkpoint is a folder as ``transformers`` has it: ``config.json`` and ``model.safetensors``. All
files of a shape hold the same numbers, which bf16 can hold: in F32 and BF16 it is the same model.
They are kept in ``$TAPEOUT_CACHE/bench`` (``installs.py``), under a hash of what they are made of.
"""

# gguf's functions do not say which arrays they return.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from installs import made
from llm_shapes import BOS, EOS, EPSILON, ROPE_THETA, UNKNOWN, Shape
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray]

DTYPES = {"f32": "float32", "bf16": "bfloat16"}
"""Formats of checkpoints, as ``config.json`` calls them."""


def weights(shape: Shape) -> Iterator[tuple[str, np.ndarray]]:
    """Draw every weight, in f32, from a stream of its own.

    As GPT-2 begins, what is added to the residual stream is small beside it: in deeper networks of
    random weights, a rounding would grow from layer to layer until it says nothing.
    """
    deviation = {"embed_tokens": 1.0} | dict.fromkeys(_ADDED, 0.02 / (2 * shape.layers) ** 0.5)
    for name, sizes in shape.tensors().items():
        normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal
        drawn = normal(sizes, dtype=np.float32)
        if len(sizes) > 1:
            values = np.float32(deviation.get(name.split(".")[-2], 0.02)) * drawn
        else:
            values = 1 + np.float32(0.1) * drawn  # a norm that is left out would be seen
        yield name, values.astype(ml_dtypes.bfloat16).astype(np.float32)


_ADDED = ("o_proj", "down_proj")
"""The products whose results are added to the residual stream."""


def checkpoint(shape: Shape, format: str) -> Path:
    """Return the folder of a checkpoint in ``f32`` or ``bf16``."""
    dtype = DTYPES[format]

    def fill(folder: Path) -> None:
        held = {name: values.astype(dtype) for name, values in weights(shape)}
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(shape.config(dtype), indent=1) + "\n")

    return made(f"{shape.name}-{format}", _made_of(shape), fill)


def gguf_file(shape: Shape, format: str) -> Path:
    """Return the GGUF file in ``F32``, ``BF16``, ``Q8_0`` or ``Q4_0``.

    All matrices are in the format, as ``llama-quantize --pure`` writes it, and norms are in f32.
    """
    file = "model.gguf"
    made_of = [*_made_of(shape), version("gguf")]
    return (
        made(f"{shape.name}-{format}", made_of, lambda to: _gguf(shape, format, to / file)) / file
    )


def _gguf(shape: Shape, format: str, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(shape.name)
    writer.add_file_type(_FILE_TYPES[format])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_vocab_size(shape.vocab)
    _add_tokenizer(writer, shape.vocab)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}
    for name, values in weights(shape):
        renamed = names.get_name(name, try_suffixes=(".weight",))
        assert renamed is not None, f"GGUF has no name for {name}"
        count = heads.get(name.split(".")[-2])
        if count:
            values = interleaved(values, count)
        kind = gguf.GGMLQuantizationType[format if values.ndim > 1 else "F32"]
        writer.add_tensor(renamed, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return ``[heads * size, in]`` with the rows that rotate together side by side, as in GGUF.

    ``transformers`` rotates row ``i`` of a head with row ``i + size / 2``.
    """
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _add_tokenizer(writer: gguf.GGUFWriter, vocab: int) -> None:
    """Add the bytes, and words that nobody will write: a model is given numbers here."""
    special = [(b"<unk>", gguf.TokenType.UNKNOWN)]
    special += [(text, gguf.TokenType.CONTROL) for text in (b"<s>", b"</s>")]
    special += [(b"<0x%02X>" % byte, gguf.TokenType.BYTE) for byte in range(256)]
    words = [(b"word%d" % i, gguf.TokenType.NORMAL) for i in range(len(special), vocab)]
    texts, types = zip(*special, *words, strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([0.0] * vocab)
    writer.add_token_types(types)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)


def _made_of(shape: Shape) -> list[str]:
    return [json.dumps(asdict(shape)), version("numpy"), Path(__file__).read_text()]
