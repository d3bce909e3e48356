"""The C compiler: found, named when it is missing, quoted when it fails."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tapeout.ir.errors import CompileError
from tapeout.targets.cpu.device import device, devices
from tapeout.targets.cpu.target import sources
from tapeout.targets.host import objects
from tapeout.targets.host.build import build, compiler


@pytest.mark.parametrize("name", sorted(devices()))
def test_a_missing_compiler_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CompileError) as caught:
        compiler(device(name))
    told = str(caught.value)
    assert caught.value.code == "E0601"
    assert f"cpu:{name}" in told
    assert device(name).compiler in told
    assert "TAPEOUT_CC" in told


def test_the_environment_chooses_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEOUT_CC", "no-such-compiler")
    with pytest.raises(CompileError, match="no-such-compiler"):
        compiler(device("generic"))
    monkeypatch.setenv("TAPEOUT_CC", "sh")
    assert compiler(device("generic")) == "sh"


@pytest.mark.parametrize("name", ["generic", "neon"])
def test_a_failing_compiler_is_quoted(name: str) -> None:
    broken = sources({"k0.c": "this is no C;\n"})
    with pytest.raises(CompileError) as caught:
        build(broken, device(name))
    assert caught.value.code == "E0602"
    assert "k0.c" in str(caught.value)
    assert device(name).compiler in str(caught.value)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Sequence[str]]:
    """The compiler's commands, which begin with an empty cache."""
    monkeypatch.setenv("TAPEOUT_CACHE", str(tmp_path))
    found: list[Sequence[str]] = []

    def run(command: Sequence[str], **options: Any) -> Any:
        found.append(command)
        return original(command, **options)

    original: Any = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    return found


def compiled(commands: list[Sequence[str]]) -> set[str]:
    """Sources that were compiled since the last look."""
    names = {command[command.index("-c") + 1] for command in commands if "-c" in command}
    commands.clear()
    return names


def test_what_did_not_change_is_not_compiled_again(commands: list[Sequence[str]]) -> None:
    text = sources({"k0.c": "int one(void) { return 1; }\n"})
    first = build(text, device("generic"))
    assert compiled(commands) == {n for n in text if n.endswith(".c")}
    assert build(text, device("generic")) == first
    assert compiled(commands) == set()
    changed = {**text, "k0.c": b"int one(void) { return 2; }\n"}
    assert build(changed, device("generic")) != first
    assert compiled(commands) == {"k0.c"}
    build({**text, "vec.h": text["vec.h"] + b"\n"}, device("generic"))
    assert "k0.c" in compiled(commands)
    build(text, device("generic"), ["-O1"])
    assert "k0.c" in compiled(commands)


def test_without_a_cache_everything_is_compiled(
    commands: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEOUT_CACHE", "/proc/nowhere")
    text = sources({})
    for _ in range(2):
        build(text, device("generic"))
        assert compiled(commands) == {n for n in text if n.endswith(".c")}


def test_objects_unused_for_longest_are_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAPEOUT_CACHE", str(tmp_path))
    monkeypatch.setattr(objects, "MOST_BYTES", 20)
    made = tmp_path / "made.o"
    made.write_bytes(bytes(8))
    for day, key in enumerate("abc"):
        objects.keep(key, made)
        os.utime(objects.folder() / f"{key}.o", (day, day))
    assert objects.find("a", tmp_path / "found.o")
    objects.trim()
    assert {path.stem for path in objects.folder().iterdir()} == {"a", "c"}


def test_every_figure_of_a_device_is_there() -> None:
    assert set(devices()) >= {"avx512", "avx2", "neon", "generic"}
    for each in devices().values():
        assert each.lanes & (each.lanes - 1) == 0, each
        assert each.tile_n % each.lanes == 0, each
        vectors = each.tile_m * each.tile_n // each.lanes
        assert vectors <= each.vector_registers, f"{each.name}: the tile does not fit"
