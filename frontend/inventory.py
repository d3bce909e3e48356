"""``targets``: the targets and devices that there are, and whether this machine can build them."""

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

from tapeout.runtime.cpu import features, machine
from tapeout.targets.cpu.device import Device, devices
from tapeout.targets.gpu.device import Device as GpuDevice
from tapeout.targets.gpu.device import devices as gpu_devices

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""As CUDA's driver numbers the attributes of a device."""


@dataclass(frozen=True)
class Entry:
    """A device; ``found`` is what the compiler says of itself, None when it is missing."""

    name: str
    needs: str
    found: str | None
    runs_here: bool


def inventory() -> list[Entry]:
    """Every device of every target."""
    capability = _capability()
    gpus = [_gpu_entry(device, capability) for device in gpu_devices().values()]
    return [*(_entry(device) for device in devices().values()), *gpus]


def _entry(device: Device) -> Entry:
    compiler = os.environ.get("TAPEOUT_CC") or device.compiler
    is_machine = device.machine in ("", machine())
    runs = is_machine and features().issuperset(device.features)
    return Entry(f"cpu:{device.name}", compiler, _version(compiler), runs)


def _gpu_entry(device: GpuDevice, capability: int | None) -> Entry:
    try:
        found = f"triton {version('triton')}"
    except PackageNotFoundError:
        found = None
    runs = capability is not None and device.runs_on(capability)
    return Entry(device.label, "tapeout[gpu]", found, runs)


def _capability() -> int | None:
    """The compute capability of this machine's first GPU, 80 for 8.0; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, numbers = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    asked = [driver.cuInit(0), driver.cuDeviceGet(ctypes.byref(device), 0)]
    for number, attribute in zip(numbers, (CAPABILITY_MAJOR, CAPABILITY_MINOR), strict=True):
        asked.append(driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device))
    return None if any(asked) else 10 * numbers[0].value + numbers[1].value


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
    out.print("--target gpu compiles for every gpu at once; tapeout run --emulate runs that here.")
    out.print("--target cpu takes the best device that runs on this machine.")
