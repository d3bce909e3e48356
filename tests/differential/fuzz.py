"""Random graphs, compiled for every device of this machine's kind, against the evaluator.

    python tests/differential/fuzz.py [--seconds 600] [--seed N] [--one] [--flow] [--devices a,b]

Prints a line per graph that differs or does not compile, with the seed that makes it again
(``--seed N --one``), and a summary. Exit status 1 when there was any.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path


def run(
    first: int,
    seconds: float,
    devices: tuple[str, ...],
    most: int | None = None,
    flow: bool = False,
    verbose: bool = False,
) -> tuple[int, list[str]]:
    """Check graphs from seed ``first`` on for a time; the number done, and what went wrong."""
    from random_graphs import FLOW, MOVES, check, draw

    end, done, wrong = time.monotonic() + seconds, 0, list[str]()
    moves = (*MOVES, *FLOW * 4) if flow else MOVES
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end and (most is None or done < most):
            seed = first + done
            done += 1
            try:
                case = draw(seed, moves)
                for device in devices:
                    check(case, device, Path(folder))
            except Exception as error:
                first_line = str(error).splitlines()[:2] or [""]
                wrong.append(f"seed {seed}: {type(error).__name__}: {' '.join(first_line)}")
                print(wrong[-1], flush=True)
                if verbose:
                    traceback.print_exc()
    return done, wrong


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Differential test of random graphs.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", action="store_true", help="one graph, with the whole error")
    parser.add_argument("--flow", action="store_true", help="branches and loops too")
    parser.add_argument("--devices", default="avx512,avx2,generic")
    options = parser.parse_args(arguments)
    most = 1 if options.one else None
    devices = tuple(options.devices.split(","))
    done, wrong = run(options.seed, options.seconds, devices, most, options.flow, options.one)
    kinds = Counter(line.split(": ")[1] for line in wrong)
    print(f"{done} graphs, {len(wrong)} wrong {dict(kinds) if kinds else ''}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
