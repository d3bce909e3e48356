"""The hostile models as parameters of tests: ``at_load``, ``past_load`` and ``any_model``."""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hostile_models import Hostile


def _package() -> Any:
    """Import the package beside this file; test folders are not on the import path."""
    folder = Path(__file__).parent / "hostile_models"
    spec = importlib.util.spec_from_file_location(
        "hostile_models", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None, f"{folder} is a package"
    assert spec.loader is not None, f"{folder} is a package"
    module = importlib.util.module_from_spec(spec)
    sys.modules["hostile_models"] = module
    spec.loader.exec_module(module)
    return module


_PACKAGE = _package()
_MODELS: "list[Hostile]" = _PACKAGE.MODELS
_CHOICES = {
    "at_load": [each for each in _MODELS if each.outcome == _PACKAGE.AT_LOAD],
    "past_load": [each for each in _MODELS if each.outcome != _PACKAGE.AT_LOAD],
    "any_model": _MODELS,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, models in _CHOICES.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, models, ids=[each.name for each in models])


@pytest.fixture(scope="session")
def marker() -> str:
    """What stands in every name that would do harm in generated code."""
    return _PACKAGE.MARKER


@pytest.fixture(scope="session")
def all_models() -> "list[Hostile]":
    return _MODELS
