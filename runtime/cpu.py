"""Which built form of a program fits this machine."""

import os
from collections.abc import Sequence

from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import Code


def choose(code: Sequence[Code], machine: str, features: frozenset[str]) -> Code:
    """Return the first form that runs on ``machine`` with ``features``; E0505 when none does."""
    for form in code:
        if form.machine == machine and features.issuperset(form.features):
            return form
    raise RunError(
        "E0505",
        "this program was built for another machine",
        _facts(code, machine, features),
        "compile with --target cpu on this machine, or for a device it is like",
    )


def _facts(
    code: Sequence[Code], machine: str, features: frozenset[str]
) -> list[tuple[str, object]]:
    here: list[tuple[str, object]] = [("machine", machine)]
    for form in code:
        lacks = " ".join(f for f in form.features if f not in features)
        why = f"needs {form.machine}" if form.machine != machine else f"lacks {lacks}"
        here.append((f"{form.device}", why))
    return here


def machine() -> str:
    """Return this machine's architecture, as ``uname -m``; macOS's ``arm64`` is ``aarch64``."""
    name = os.uname().machine
    return "aarch64" if name == "arm64" else name


def features() -> frozenset[str]:
    """Return this CPU's features under Linux's names; none where they cannot be found out."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return parse_features(file.read(16384))
    except OSError:
        return frozenset()


def parse_features(text: str) -> frozenset[str]:
    """Return the features of the first CPU in the text of ``/proc/cpuinfo``."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
