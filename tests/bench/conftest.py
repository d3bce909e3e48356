"""Marks the tests of the harness as long ones: they need a model and other engines."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "models: compiles and runs real models (minutes)")
