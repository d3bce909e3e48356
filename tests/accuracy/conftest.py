"""The harness is scripts that import each other: tests load them as they run."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function from a script's name to the script as a module."""
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    return importlib.import_module
