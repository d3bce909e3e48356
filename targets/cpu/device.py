"""A CPU device: one instruction set, read from ``devices/NAME.toml``."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Device:
    """What passes and the emitter need to know of a device; see the TOML for sources.

    ``lanes``: elements of a vector, the same for all types. ``tile_m`` x ``tile_n``: the register
    tile of a product in f32. ``features``: what the loader looks for in the CPU.
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


@cache
def device(name: str) -> Device:
    """The device of this name; KeyError for others."""
    table = devices()
    return table[name]


@cache
def devices() -> dict[str, Device]:
    """Every device that has a TOML, by name."""
    found: dict[str, Device] = {}
    for item in sorted(files(__package__).joinpath("devices").iterdir(), key=lambda i: i.name):
        if item.name.endswith(".toml"):
            raw = tomllib.loads(item.read_text())
            name = item.name.removesuffix(".toml")
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            fields.pop("source")
            found[name] = Device(name=name, **fields)
    return found
