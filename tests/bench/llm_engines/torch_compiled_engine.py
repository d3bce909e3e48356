"""torch with ``torch.compile``: prefill in whatever length and the step of decoding."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

import torch

from .base import Engine
from .torch_engine import Torch


def engine(format: str) -> Engine:
    """``f32`` or ``bf16``, for weights and arithmetic."""
    return Torch(format, torch.compile)
