"""Run artifacts whose sizes may not fit, in a process of its own: under a sanitizer it dies at the
first fault.

    python run_open_sizes.py FOLDER...

Each folder holds ``model.tapeout`` and the inputs of its runs; one without outputs beside them has
to be refused. Prints a line per run that was not, or was wrongly; exit status 1 then.
"""

import sys
from pathlib import Path

import numpy as np

from tapeout.runtime.errors import RunError
from tapeout.runtime.program import load


def wrong(folder: Path) -> list[str]:
    """Runs that ended in another way than they should."""
    program = load(folder / "model.tapeout", threads=2)
    found: list[str] = []
    for path in sorted(folder.glob("*-inputs.npz")):
        fits = path.with_name(path.name.replace("inputs", "outputs")).exists()
        try:
            program.run(dict(np.load(path).items()))
            refused = False
        except RunError:
            refused = True
        if refused == fits:
            found.append(f"{folder.name} {path.name}: {'refused' if refused else 'not refused'}")
    return found


if __name__ == "__main__":
    lines = [line for name in sys.argv[1:] for line in wrong(Path(name))]
    print("\n".join([*lines, f"{len(sys.argv) - 1} artifacts"]))
    sys.exit(bool(lines))
