"""Load a model and print the token that follows the first: a process to be timed from outside.

python tests/bench/llm_first_token.py ENGINE:FORMAT PATH CPU[,CPU...] CONTEXT
"""

import os
import sys
from pathlib import Path

import numpy as np
from llm_engines import engine
from llm_shapes import BOS


def main(name: str, path: str, cpus: str, context: str) -> None:
    """Prefill one token on the given CPUs."""
    own = [int(cpu) for cpu in cpus.split(",")]
    os.sched_setaffinity(0, own)
    session = engine(name).load(Path(path), len(own), int(context))
    print(int(session.prefill(np.array([BOS])).argmax()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
