"""The C compiler: found, named when it is missing, quoted when it fails."""

import pytest

from tapeout.ir.errors import CompileError
from tapeout.targets.cpu.build import build, compiler, sources
from tapeout.targets.cpu.device import device, devices


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


def test_every_figure_of_a_device_is_there() -> None:
    assert set(devices()) >= {"avx512", "avx2", "neon", "generic"}
    for each in devices().values():
        assert each.lanes & (each.lanes - 1) == 0, each
        assert each.tile_n % each.lanes == 0, each
        vectors = each.tile_m * each.tile_n // each.lanes
        assert vectors <= each.vector_registers, f"{each.name}: the tile does not fit"
