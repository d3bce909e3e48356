"""torch's own operator samples through the importer: passed, refused and wrong, by operator.

python tests/frontend/aten/suite.py [--only REGEX] [--samples N] [--dtypes float32,int64,...]
                                    [--list wrong,refused,passed] [--jobs N]
"""

import argparse
import multiprocessing
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from samples import Outcome, operators, outcomes

DTYPES = "float32,int64,bool,bfloat16"


def run(chosen: tuple[str, str, int]) -> list[Outcome]:
    """All of one operator with one element type."""
    name, dtype, limit = chosen
    np.seterr(all="ignore")
    torch.set_num_threads(1)
    return outcomes(name, getattr(torch, dtype), limit)


def main(arguments: Sequence[str]) -> int:
    """Run the samples and print the table; the status is 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--dtypes", default=DTYPES)
    parser.add_argument("--list", default="wrong")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    names = [n for n in operators() if re.search(options.only, n)]
    chosen = [(n, d, options.samples) for n in names for d in options.dtypes.split(",")]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        found = [o for each in pool.imap(run, chosen, chunksize=4) for o in each]
    report(found, options.list.split(","))
    return int(any(o.state == "wrong" for o in found))


def report(found: Sequence[Outcome], listed: Sequence[str]) -> None:
    """Print the counts of every operator, then the reasons of the listed states."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in found:
        table[outcome.operator][outcome.state] += 1
    for name in sorted(table):
        row = table[name]
        print(
            f"{name:44} {row['passed']:4} passed {row['refused']:4} refused {row['wrong']:4} wrong"
        )
    reasons = Counter(
        (o.state, o.operator, str(o.dtype), o.reason) for o in found if o.state in listed
    )
    for (state, name, dtype, reason), count in sorted(reasons.items()):
        print(f"{state} {name} {dtype} x{count}: {reason[:300]}")
    total = Counter(o.state for o in found)
    print(f"{len(found)} samples: " + ", ".join(f"{n} {state}" for state, n in total.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
