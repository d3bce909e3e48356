"""A model from a folder that ``transformers`` saved: ``config.json`` and safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tapeout.ir.errors import CompileError


def model_of(folder: Path) -> Any:
    """The causal model in a folder, weights in their stored type and mapped from their files.

    Nothing is downloaded, no code of the folder runs, and only safetensors are read. E0301 for a
    folder without all of them, E0605 without ``transformers``.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise CompileError(
            "E0605", "transformers is not installed", [], "pip install transformers"
        ) from error
    try:
        auto: Any = AutoModelForCausalLM
        return auto.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="auto",
        ).eval()
    except Exception as error:
        raise CompileError(
            "E0301",
            "the folder is no whole checkpoint of a causal language model",
            [("folder", folder), ("transformers", str(error).strip()[:500])],
            "copy config.json and every safetensors file, with the index where there is one",
        ) from error
