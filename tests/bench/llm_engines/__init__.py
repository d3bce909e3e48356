"""One adapter per engine of language models, all alike: ``NAME:FORMAT``, imported in its worker."""

from importlib import import_module

from .base import Engine, Session

__all__ = ["OURS", "PEERS", "Engine", "Session", "engine"]

OURS = "tapeout"
PEERS = ("llamacpp", "torch", "torch_compiled")


def engine(name: str) -> Engine:
    """Return the adapter; the engine's own package is imported here and not before."""
    name, _, format = name.partition(":")
    assert name in (OURS, *PEERS), f"no engine {name}; there are {OURS}, {', '.join(PEERS)}"
    return import_module(f".{name}_engine", __package__).engine(format)
