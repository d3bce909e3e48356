"""The package of random graphs for the tests beside it."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _package() -> Any:
    """Import the package beside this file; test folders are not on the import path."""
    folder = Path(__file__).parent / "random_graphs"
    spec = importlib.util.spec_from_file_location(
        "random_graphs", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None, f"{folder} is a package"
    assert spec.loader is not None, f"{folder} is a package"
    module = importlib.util.module_from_spec(spec)
    sys.modules["random_graphs"] = module
    spec.loader.exec_module(module)
    return module


_PACKAGE = _package()


@pytest.fixture(scope="session")
def graphs() -> Any:
    """The package ``random_graphs``."""
    return _PACKAGE
