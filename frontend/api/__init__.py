"""tapeout: an ahead-of-time compiler from model graphs to accelerator programs.

``compile`` and ``load`` resolve on first use, so a device that only loads artifacts never
imports the compiler.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tapeout.frontend.driver import compile
    from tapeout.runtime.program import load

__version__ = "0.1.0"
__all__ = ["__version__", "compile", "load"]


def __getattr__(name: str) -> object:
    """Import ``compile`` or ``load`` when it is first asked for (PEP 562)."""
    if name == "compile":
        from tapeout.frontend.driver import compile

        return compile
    if name == "load":
        return _runtime_load()
    raise AttributeError(f"module 'tapeout' has no attribute {name!r}")


def _runtime_load() -> object:
    """Import the runtime; a collection now would go over all objects of numpy: 1 ms of 5."""
    import gc

    collecting = gc.isenabled()
    gc.disable()
    try:
        from tapeout.runtime.program import load
    finally:
        if collecting:
            gc.enable()
    return load
