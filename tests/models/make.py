"""Make the real models that tests and benchmarks use, or say which there are.

    python tests/models/make.py --list
    python tests/models/make.py minilm resnet50
    python tests/models/make.py --all

Models are kept in ``$TAPEOUT_CACHE/models`` (``~/.cache/tapeout/models``) and made only once.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from zoo.recipe import Info


SUMMARY = "Make the real models that tests and benchmarks use, or say which there are."


def main(arguments: list[str]) -> int:
    """Run the command line; return its exit status (2: a name that is not a model)."""
    options = _parse(arguments)
    from zoo import RECIPES
    from zoo.recipe import build, stale_folders

    recipes = {recipe.name: recipe for recipe in RECIPES}
    if options.list:
        _print_list({recipe.name: recipe.summary for recipe in RECIPES})
        return 0
    if options.prune:
        for folder in stale_folders(RECIPES):
            shutil.rmtree(folder)
            print(f"removed {folder}")
    names: list[str] = list(recipes) if options.all else options.names
    unknown = [name for name in names if name not in recipes]
    if unknown:
        print(f"no model {', '.join(unknown)}; known: {', '.join(recipes)}", file=sys.stderr)
        return 2
    results: list[tuple[Info, bool]] = []
    progress = Console(stderr=True)
    for name in names:
        with progress.status(f"making {name}: {recipes[name].summary}"):
            results.append(build(recipes[name], force=options.force))
    if options.json:
        print(json.dumps([asdict(info) for info, _ in results]))
    elif results:
        _print_made(results)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make.py", description=SUMMARY)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to make")
    parser.add_argument("--all", action="store_true", help="make every model")
    parser.add_argument("--list", action="store_true", help="list the models")
    parser.add_argument("--force", action="store_true", help="make them again")
    parser.add_argument("--prune", action="store_true", help="remove models of older recipes")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    options = parser.parse_args(arguments)
    if not (options.names or options.all or options.list or options.prune):
        parser.error("give model names, --all, --list or --prune")
    return options


def _print_list(summaries: dict[str, str]) -> None:
    table = Table("model", "what it is")
    for name, summary in summaries.items():
        table.add_row(name, summary)
    _console().print(table)


def _print_made(results: "list[tuple[Info, bool]]") -> None:
    table = Table("model", "opset", "nodes", "distinct ops", "MB", "made in s", "GFLOP", "")
    for info, made in results:
        gflop = f"{info.flop / 1e9:.3g}" if info.flop else "-"
        cells = [info.name, info.opset, info.nodes, len(info.ops), info.megabytes, info.seconds]
        table.add_row(*map(str, cells), gflop, "made" if made else "kept")
    _console().print(table)


def _console() -> Console:
    plain = Console()
    return Console(width=max(plain.width, 100))  # a pipe counts as 80 columns: too few


if __name__ == "__main__":
    # The exporters' results must not depend on how many cores there are, nor should making
    # models take the machine from a measurement beside it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
