"""Load a model; print the token that follows the first, and the seconds that the engine took to it.

A process to be timed from outside too: Python and numpy, which every engine stands on, come before.

python tests/bench/llm_first_token.py ENGINE:FORMAT PATH CPU[,CPU...] CONTEXT
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
from llm_engines import engine
from llm_shapes import BOS


def main(name: str, path: str, cpus: str, context: str) -> None:
    """Prefill one token on the given CPUs."""
    own = [int(cpu) for cpu in cpus.split(",")]
    os.sched_setaffinity(0, own)
    begin = time.perf_counter()
    session = engine(name).load(Path(path), len(own), int(context))
    token = int(session.prefill(np.array([BOS])).argmax())
    print(token, time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
