"""The choice among an artifact's forms."""

import pytest

from tapeout.runtime import cpu
from tapeout.runtime.artifact import Code
from tapeout.runtime.errors import RunError

FORMS = (
    Code("avx512", "x86_64", ("avx512f", "avx512vl"), "a.so"),
    Code("avx2", "x86_64", ("avx2", "fma"), "b.so"),
    Code("neon", "aarch64", ("asimd",), "c.so"),
    Code("generic", "x86_64", (), "d.so"),
)
X86 = "processor\t: 0\nmodel name\t: Some: CPU\nflags\t\t: fpu avx2 fma avx512f avx512vl\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0c\n\n"


@pytest.mark.parametrize(
    ("machine", "features", "device"),
    [
        ("x86_64", "avx512f avx512vl avx2 fma", "avx512"),
        ("x86_64", "avx512f avx2 fma", "avx2"),
        ("x86_64", "", "generic"),
        ("aarch64", "fp asimd avx2 fma", "neon"),
    ],
)
def test_first_form_that_fits_is_taken(machine: str, features: str, device: str) -> None:
    assert cpu.choose(FORMS, machine, frozenset(features.split())).device == device


def test_machine_without_a_form_is_told_what_lacks() -> None:
    with pytest.raises(RunError) as caught:
        cpu.choose(FORMS, "aarch64", frozenset())
    assert caught.value.code == "E0505"
    assert ("neon", "lacks asimd") in caught.value.facts
    assert ("avx2", "needs x86_64") in caught.value.facts


def test_features_are_those_of_the_first_cpu() -> None:
    assert cpu.parse_features(X86 + ARM) == {"fpu", "avx2", "fma", "avx512f", "avx512vl"}
    assert cpu.parse_features(ARM) == {"fp", "asimd", "asimddp"}
    assert cpu.parse_features("") == frozenset()


def test_this_machine_has_features() -> None:
    assert cpu.features() & {"sse2", "asimd"}
