"""One adapter per engine, all alike: an engine is a module path that is imported in its worker.

``NAME:FORMAT`` is the engine computing in that format, where it is told so; ``NAME`` alone is f32,
or whatever the model says.
"""

from importlib import import_module

from .base import Engine, Session

__all__ = ["NAMES", "Engine", "Session", "engine"]

NAMES = ("tapeout", "onnxruntime", "openvino")


def engine(name: str) -> Engine:
    """Return the adapter; the engine's own package is imported here and not before."""
    name, _, format = name.partition(":")
    assert name in NAMES, f"no engine {name}; there are {', '.join(NAMES)}"
    return import_module(f".{name}_engine", __package__).engine(format or "f32")
