"""What ``--quantize`` says of one layer: a format, and how its numbers are found.

    int8             8-bit weights per channel, 8-bit activations with scales from calibration
    int8-dynamic     the same weights; activations take a scale per row while the program runs
    wB, wBgG         weights alone: B bits, 1 to 8, a scale per channel or per G along K
    wBa8, wBa8gG     such weights, and 8-bit activations with a scale per row
    bf16, fp16       weights and activations in a 16-bit float
    none             as the model has it

A weight format may end in ``a`` for unsigned codes with zero points (``w4g32a``) and then in the
type of its scales (``w4g32a-bf16``). Scales are f16 for groups and f32 for channels if it does
not say. Options follow after commas: ``nearest``, ``search`` or ``gptq`` for how weights are
rounded, ``min-max``, ``percentile``, ``mse`` or ``entropy`` for how ``int8`` reads calibration
data (``int8,entropy``). ``always`` takes the format even where a device is slower in it than in
f32, for the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, TypeAlias, get_args

from tapeout.ir.dtypes import DType, bf16, f16, f32
from tapeout.ir.errors import CompileError
from tapeout.passes.quantize.weights import WeightFormat

Activations: TypeAlias = Literal["static", "dynamic"]
Method: TypeAlias = Literal["nearest", "search", "gptq"]
Observing: TypeAlias = Literal["min-max", "percentile", "mse", "entropy"]


@dataclass(frozen=True, slots=True)
class LayerFormat:
    """The format of one layer; ``name`` is how a user writes it.

    ``weight`` is None where weights are floats, of the type ``compute``. ``activations`` of 8
    bits have a scale per tensor from calibration (static) or one per row found while the program
    runs (dynamic); None leaves them in ``compute``. ``method`` and ``observer`` are None where
    the user leaves them to the pass. ``always`` takes the format whether a device gains or loses.
    """

    name: str
    weight: WeightFormat | None = None
    activations: Activations | None = None
    compute: DType = f32
    method: Method | None = None
    observer: Observing | None = None
    always: bool = False

    def __str__(self) -> str:
        always = "always" if self.always else None
        return ",".join(filter(None, (self.name, self.method, self.observer, always)))


NAMED: dict[str, LayerFormat | None] = {
    "int8": LayerFormat("int8", WeightFormat(8), "static"),
    "int8-dynamic": LayerFormat("int8-dynamic", WeightFormat(8), "dynamic"),
    "bf16": LayerFormat("bf16", compute=bf16),
    "fp16": LayerFormat("fp16", compute=f16),
    "none": None,
}
KNOWN = "int8, int8-dynamic, wB, wBgG, wBa8, wBa8gG (B bits, groups of G), bf16, fp16, none"

USUAL = (*NAMED, "w8", "w4", "w4g32", "w4g128", "w4g32a", "w3g64", "w2g32", "w4a8g128")
"""What ``auto`` tries, as far as it is lowered, and what a slip of the pen is compared with."""
_MEANT = {
    **{"int8-static": "int8", "w8a8": "int8-dynamic", "int4": "w4g32", "int2": "w2g32"},
    **{"f16": "fp16", "float16": "fp16", "bfloat16": "bf16", "fp32": "none", "float32": "none"},
}
_WEIGHTS = re.compile(
    r"w(?P<bits>[0-9]{1,6})(a(?P<activations>[0-9]{1,6}))?(g(?P<group>[0-9]{1,6}))?"
    r"(?P<asymmetric>a)?(-(?P<scale>f32|f16|bf16))?"
)
_SCALES = {"f32": f32, "f16": f16, "bf16": bf16}


def parse_format(text: str, facts: Sequence[tuple[str, object]] = ()) -> LayerFormat | None:
    """The format that ``text`` names, or None for ``none``; ``facts`` say where it stands.

    Errors: E0111 for what is no format, and for options that it has no use for.
    """
    name, *options = (part.strip() for part in text.split(","))
    made = _of_name(name, facts)
    for option in options:
        made = _with_option(made, option, text, facts)
    return made


def _of_name(name: str, facts: Sequence[tuple[str, object]]) -> LayerFormat | None:
    if name in NAMED:
        return NAMED[name]
    match = _WEIGHTS.fullmatch(name)
    if match is None:
        near = nearest_of(name)
        fix = f"did you mean {near}?" if near else "use one of these, w4g32 for example"
        raise _refusal(f"there is no format '{name}'", [*facts, ("known", KNOWN)], fix)
    bits, group = int(match["bits"]), match["group"]
    _in_range("weights of {} bits", bits, 1, 8, name, facts)
    if match["activations"]:
        _in_range("activations of {} bits", int(match["activations"]), 8, 8, name, facts)
    if group:
        _in_range("groups of {} weights", int(group), 2, 999_999, name, facts)
    scale = match["scale"] or ("f16" if group else "f32")
    shared = int(group) if group else "channel"
    weight = WeightFormat(bits, shared, bool(match["asymmetric"]), _SCALES[scale])
    return LayerFormat(name, weight, "dynamic" if match["activations"] else None)


def nearest_of(name: str) -> str:
    """The format that ``name`` looks most like, or nothing."""
    plain = name.casefold().replace("_", "-")
    if plain in USUAL or plain in _MEANT:
        return _MEANT.get(plain, plain)
    return next(iter(get_close_matches(plain, USUAL, 1, 0.4)), "")


def _in_range(
    what: str, value: int, least: int, most: int, name: str, facts: Sequence[tuple[str, object]]
) -> None:
    if least <= value <= most:
        return
    allowed = str(least) if least == most else f"{least} to {most}"
    raise _refusal(
        f"'{name}' is no format: there are no {what.format(value)}",
        [*facts, ("allowed", allowed), ("known", KNOWN)],
        f"write {allowed} in its place",
    )


def _with_option(
    made: LayerFormat | None, option: str, text: str, facts: Sequence[tuple[str, object]]
) -> LayerFormat:
    methods, observers = get_args(Method), get_args(Observing)
    if made is not None and option in methods and made.weight and made.method is None:
        return replace(made, method=option)
    static = made is not None and made.activations == "static"
    if made is not None and option in observers and static and made.observer is None:
        return replace(made, observer=option)
    if made is not None and option == "always" and not made.always:
        return replace(made, always=True)
    usable = [*(methods if made and made.weight else ()), *(observers if static else ())]
    usable += ["always"] if made else []
    why = "is given twice" if option in usable else "is no option of this format"
    raise _refusal(
        f"'{option}' {why}",
        [*facts, ("given", text), ("options", ", ".join(usable) or "none")],
        "leave it out, or take one option of a kind" if usable else "leave it out",
    )


def _refusal(what: str, facts: Sequence[tuple[str, object]], fix: str) -> CompileError:
    return CompileError("E0111", what, facts, fix)
