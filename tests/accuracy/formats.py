"""Formats to compile to, and how much accuracy each may cost on each model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

SPARSIFY = "sparsify="
BUDGET = re.compile("(.*)@([a-z]+=.*)")


@dataclass(frozen=True)
class Format:
    """What ``tapeout.compile`` is told: its ``quantize``, ``sparsify`` and ``max_drop``."""

    name: str
    quantize: str | None = None
    sparsify: str | None = None
    max_drop: str | None = None

    @staticmethod
    def parse(name: str) -> "Format":
        """Read ``fp32``, ``QUANTIZE``, ``sparsify=SPARSIFY`` or ``QUANTIZE+sparsify=SPARSIFY``.

        ``CANDIDATE+CANDIDATE@METRIC=VALUE`` is a budget. Whether there is such a format is for the
        compiler to say.
        """
        budget = BUDGET.fullmatch(name)
        if budget:
            return Format(name, quantize=budget[1], max_drop=budget[2])
        quantize, _, sparsify = name.partition("+")
        if name.startswith(SPARSIFY):
            quantize, sparsify = "", name
        return Format(
            name,
            None if quantize in ("", "fp32") else quantize,
            sparsify.removeprefix(SPARSIFY) or None,
        )


FORMATS = (
    *("fp32", "int8", "int8-dynamic", "w8", "w4g32", "w4g128", "w3g64", "w2g32", "w4a8g128"),
    *("bf16", "fp16", "sparsify=2:4", "sparsify=4x1@0.5"),
)
"""What is compiled when nothing is asked for."""

BUDGETS: Mapping[str, str] = {
    "charlm": "w8+w4g32+w2g32@perplexity=3",
}
"""Beside those, a choice of formats under a budget for some models. It is measured on the first
samples of the evaluation data, and judged on those that the compiler has not seen."""


LIMITS: Mapping[tuple[str, str], float] = {
    ("digits", "fp32"): 0.0,
    ("digits", "int8"): 0.5,
    ("digits", "bf16"): 0.5,
    ("digits", "fp16"): 0.5,
    ("minilm", "fp32"): 0.0001,
    ("minilm", "int8"): 0.01,
    ("minilm", "w4g32"): 0.02,
    ("minilm", "bf16"): 0.001,
    ("minilm", "fp16"): 0.0002,
    ("charlm", "fp32"): 0.01,
    ("charlm", "int8"): 1.0,
    ("charlm", "w4g32"): 3.0,
    ("charlm", BUDGETS["charlm"]): 3.0,
    ("charlm", "bf16"): 0.1,
    ("charlm", "fp16"): 0.02,
}
"""What a format may lose on a model, in the unit of the model's task: points of accuracy, Spearman,
per cent of perplexity. Formats that are not listed are reported without a judgement."""
