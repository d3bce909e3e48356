"""A GPU: an architecture that code is compiled for, read from ``devices/NAME.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from tapeout.ir.dtypes import bf16, f16, f32, i8
from tapeout.passes.quantize.pays import Rates


@dataclass(frozen=True)
class Device:
    """What passes and the build need to know of an architecture; see the TOML for sources.

    ``architecture``: its compute capability without the point. Code for it runs on later minor
    versions too, unless it is ``exact``. ``shared_bytes``: the most that a program may take. What
    it computes and reads per second is that of the GPU that ``sources`` names.
    """

    name: str
    architecture: int
    exact: bool
    shared_bytes: int
    f32_gflop_per_s: float
    bf16_gflop_per_s: float
    f16_gflop_per_s: float
    i8_gop_per_s: float
    memory_gb_per_s: float
    sources: Mapping[str, str] = field(hash=False)

    @property
    def label(self) -> str:
        """Its name as ``--target`` takes it."""
        return f"gpu:{self.name}"

    def runs_on(self, capability: int) -> bool:
        """Whether code for it runs on a GPU of this compute capability, without the point."""
        is_later = capability // 10 == self.architecture // 10 and capability >= self.architecture
        return capability == self.architecture if self.exact else is_later

    @property
    def rates(self) -> Rates:
        """What it computes and reads, as passes weigh formats by it."""
        products = {
            f32: self.f32_gflop_per_s,
            bf16: self.bf16_gflop_per_s,
            f16: self.f16_gflop_per_s,
            i8: self.i8_gop_per_s,
        }
        return Rates(products, self.memory_gb_per_s, f"{self.label}, {self.sources['ceilings']}")


@cache
def devices() -> dict[str, Device]:
    """Every architecture that has a TOML, by name, the oldest first."""
    folder = files("tapeout.targets").joinpath("gpu", "devices")
    made = [_read(f) for f in folder.iterdir() if f.name.endswith(".toml")]
    return {d.name: d for d in sorted(made, key=lambda d: d.architecture)}


def _read(table: Traversable) -> Device:
    raw: dict[str, Any] = tomllib.loads(table.read_text())
    return Device(name=table.name.removesuffix(".toml"), **raw)
