"""``targets``: the targets and devices that there are, and whether this machine can build them."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tapeout.runtime.cpu import features, machine
from tapeout.targets.cpu.device import Device, devices


@dataclass(frozen=True)
class Entry:
    """A device; ``found`` is the C compiler's first line about itself, None when it is missing."""

    name: str
    needs: str
    found: str | None
    runs_here: bool


def inventory() -> list[Entry]:
    """Every device of every target."""
    return [_entry(device) for device in devices().values()]


def _entry(device: Device) -> Entry:
    compiler = os.environ.get("TAPEOUT_CC") or device.compiler
    is_machine = device.machine in ("", machine())
    runs = is_machine and features().issuperset(device.features)
    return Entry(f"cpu:{device.name}", compiler, _version(compiler), runs)


def _version(compiler: str) -> str | None:
    path = shutil.which(compiler)
    if path is None:
        return None
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return told.stdout.partition("\n")[0].strip() or path


def show(entries: list[Entry], out: Console) -> None:
    """Print the table."""
    table = Table("device", "needs", "installed", "runs on this machine")
    for e in entries:
        table.add_row(e.name, e.needs, e.found or "no", "yes" if e.runs_here else "no")
    out.print(table)
    out.print("--target cpu takes the best device that runs on this machine.")
