"""Run artifacts on inputs and compare, in a process of its own.

    python run_artifacts.py FOLDER...

Each folder holds ``model.tapeout`` and, for each run, ``N-inputs.npz`` and ``N-outputs.npz``.
Prints a line per run that differs; exit status 1 then. Under a sanitizer the process dies at the
first fault.
"""

import sys
from pathlib import Path

import numpy as np

from tapeout.runtime.program import load


def differing(folder: Path) -> list[str]:
    """Runs of one artifact whose results are not near what is expected."""
    program = load(folder / "model.tapeout", threads=2)
    found: list[str] = []
    for path in sorted(folder.glob("*-inputs.npz")):
        inputs = dict(np.load(path).items())
        wanted = np.load(path.with_name(path.name.replace("inputs", "outputs")))
        have = program.run(inputs)
        for name in wanted.files:
            want = wanted[name].astype(np.float64)
            top = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
            close = np.allclose(
                have[name].astype(np.float64), want, rtol=0, atol=3e-2 * top, equal_nan=True
            )
            if want.shape != have[name].shape or not close:
                found.append(f"{folder.name} {path.name}: {name} differs")
    return found


if __name__ == "__main__":
    lines = [line for name in sys.argv[1:] for line in differing(Path(name))]
    print("\n".join([*lines, f"{len(sys.argv) - 1} artifacts"]))
    sys.exit(bool(lines))
