"""The memory of real programs: the arena against what is alive at once, whatever the plan."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tapeout.frontend import driver
from tapeout.targets.cpu import target
from tapeout.targets.cpu.device import Device

pytestmark = pytest.mark.models

NAMES = (
    *("bvlc-alexnet", "densenet121", "inception-v1", "inception-v2", "resnet50"),
    *("shufflenet", "squeezenet", "vgg19", "zfnet512"),
)


def unbuilt(files: Mapping[str, bytes], device: Device) -> bytes:
    """In place of the C compiler: a plan is made before."""
    return b""


@pytest.mark.parametrize("name", NAMES)
def test_the_arena_is_at_most_a_twentieth_above_its_bound(
    zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(target, "build", unbuilt)
    module = driver.import_any(zoo(f"light-{name}").path)
    driver.lower(module)
    made = target.compile_module(module, driver.targeted("cpu:generic")).manifest
    # Numbers, not expressions: no size of these models is open.
    bound, placed = int(made.arena_bound), int(made.arena_bytes)
    assert 0 < bound <= placed <= 1.05 * bound
