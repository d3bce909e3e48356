"""The side store of a module's weights: symbol to array, never an attribute.

Arrays may be memory-mapped from the source file; nothing here copies them. The digest is taken
over the row-major bytes and cached, so equal weights can share storage.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class WeightStore:
    """Weights by symbol; symbols are generated here, never taken from a model file."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._digests: dict[str, str] = {}
        self._labels: dict[str, str] = {}

    def copy(self) -> "WeightStore":
        """The same arrays under the same symbols; what is added to one is not in the other."""
        made = WeightStore()
        made._arrays, made._digests = dict(self._arrays), dict(self._digests)
        made._labels = dict(self._labels)
        return made

    def add(self, array: Array, label: str = "") -> str:
        """Store an array, return its new symbol; ``label`` (the file's name) is for reports."""
        symbol = f"w{len(self._arrays)}"
        self._arrays[symbol] = array
        self._labels[symbol] = label
        return symbol

    def __getitem__(self, symbol: str) -> Array:
        return self._arrays[symbol]

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def label(self, symbol: str) -> str:
        """The name that the model's file has for it; untrusted text."""
        return self._labels[symbol]

    def digest(self, symbol: str) -> str:
        """SHA-256 of the element type, shape and row-major bytes, in hexadecimal."""
        if symbol not in self._digests:
            array = self._arrays[symbol]
            state = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
            state.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
            self._digests[symbol] = state.hexdigest()
        return self._digests[symbol]
