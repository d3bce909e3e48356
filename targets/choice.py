"""A target with the devices that a program is compiled for: what every command needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tapeout.ir.module import Module
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.pays import Rates
from tapeout.targets.host.program import Compiled


class Choice(Protocol):
    """A target and some of its devices."""

    @property
    def labels(self) -> Sequence[str]:
        """The devices, as ``--target`` takes them."""
        ...

    @property
    def rates(self) -> Rates:
        """What the best of them computes and reads per second."""
        ...

    @property
    def unit(self) -> str:
        """What the rates are those of."""
        ...

    @property
    def passes(self) -> Sequence[Pass]:
        """Passes after all others, which every one of them gains by."""
        ...

    def checks(self, module: Module) -> Sequence[Callable[[], object]]:
        """What may refuse a module that is lowered to kernels, each by itself."""
        ...

    def compile(self, module: Module, note: Callable[[str], None]) -> Compiled:
        """Compile a module that is lowered to kernels; ``note`` is told what is being done."""
        ...
