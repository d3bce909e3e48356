"""A CPU device: one instruction set, read from ``devices/NAME.toml``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from tapeout.ir.dtypes import bf16, f16, f32, i8
from tapeout.passes.quantize.pays import LookUps, Rates


@dataclass(frozen=True)
class Device:
    """What passes and the emitter need to know of a device; see the TOML for sources.

    ``lanes``: elements of a vector, the same for all types. ``tile_m`` x ``tile_n``: the register
    tile of a product in f32. ``features``: what the loader looks for in the CPU. ``pairs``: floats
    of which one instruction sums two products. ``looked_up_bits``: for few rows, codes of up to so
    many bits are faster looked up than multiplied; ``lookup_gop_per_s_per_core`` is for one bit.
    What one core computes and reads per second is that of the machine that ``sources`` names: an
    instruction set has no clock. ``sparse_i8_break_even`` and ``sparse_f32_break_even``: the part
    of 4x1 blocks of zeros from which on the sparse product is faster than the dense one; 1 where
    nobody has measured it.
    """

    name: str
    machine: str
    features: tuple[str, ...]
    compiler: str
    flags: tuple[str, ...]
    lanes: int
    vector_registers: int
    tile_m: int
    tile_n: int
    l1_bytes: int
    l2_bytes: int
    f32_gflop_per_s_per_core: float
    bf16_gflop_per_s_per_core: float
    f16_gflop_per_s_per_core: float
    i8_gop_per_s_per_core: float
    lookup_gop_per_s_per_core: float
    looked_up_bits: int
    memory_gb_per_s_per_core: float
    sparse_i8_break_even: float
    sparse_f32_break_even: float
    sources: Mapping[str, str] = field(hash=False)
    pairs: tuple[str, ...] = ()

    @property
    def libraries(self) -> tuple[str, ...]:
        """What its programs are linked with beside the usual: nothing."""
        return ()

    @property
    def label(self) -> str:
        """Its name as ``--target`` takes it."""
        return f"cpu:{self.name}"

    @property
    def rates(self) -> Rates:
        """What one core computes and reads, as passes weigh formats by it."""
        products = {
            f32: self.f32_gflop_per_s_per_core,
            bf16: self.bf16_gflop_per_s_per_core,
            f16: self.f16_gflop_per_s_per_core,
            i8: self.i8_gop_per_s_per_core,
        }
        source = f"cpu:{self.name}, {self.sources['ceilings']}"
        lookups = LookUps(self.looked_up_bits, self.lookup_gop_per_s_per_core)
        return Rates(products, self.memory_gb_per_s_per_core, source, lookups)


@cache
def device(name: str) -> Device:
    """The device of this name; KeyError for others."""
    return devices()[name]


@cache
def devices() -> dict[str, Device]:
    """Every device that has a TOML, by name."""
    folder = files("tapeout.targets").joinpath("cpu", "devices")
    tables = [f for f in folder.iterdir() if f.name.endswith(".toml")]
    made = [_read(f) for f in sorted(tables, key=lambda f: f.name)]
    return {d.name: d for d in made}


def _read(table: Traversable) -> Device:
    raw: dict[str, Any] = tomllib.loads(table.read_text())
    for name in ("features", "flags", "pairs"):
        raw[name] = tuple(raw.get(name, ()))
    return Device(name=table.name.removesuffix(".toml"), **raw)
