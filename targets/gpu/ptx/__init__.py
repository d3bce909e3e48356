"""Runs the PTX that is shipped, on the CPU, with every access checked. See README.md."""

from tapeout.targets.gpu.ptx.launch import Launch

__all__ = ["Launch"]
