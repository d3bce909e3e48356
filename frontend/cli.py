"""The ``tapeout`` command.

Exit status: 0 done; 1 the input was refused, with coded errors on standard error; 2 wrong usage,
which is what click finds wrong and every E01xx (command line and options).

Whatever a command needs is imported when it runs: ``--help`` answers at once, and ``run`` loads
the runtime alone.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

import tapeout

REFUSED, WRONG_USAGE = 1, 2

Pairs = tuple[tuple[str, Any], ...]


class Doors(click.Group):
    """The group of all commands: turns a coded error into its text and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        from tapeout.ir.errors import CompileError
        from tapeout.runtime.errors import RunError

        try:
            return super().invoke(ctx)
        except (CompileError, RunError) as error:
            click.echo(str(error), err=True)
            ctx.exit(WRONG_USAGE if error.code.startswith("E01") else REFUSED)


def _pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE``, split at the last ``=``: names come from models and may hold one."""
    name, _, value = text.rpartition("=")
    if not (name and value):
        raise click.BadParameter(f"'{text}' is not NAME=VALUE")
    return name, value


def _size(text: str) -> tuple[str, int]:
    """``NAME=N``."""
    name, value = _pair(text)
    if not value.isdecimal():
        raise click.BadParameter(f"'{text}' is not NAME=N")
    return name, int(value)


def _numbers(text: str) -> tuple[int, ...]:
    """``N,N``; none of an empty text."""
    parts = [part for part in text.split(",") if part]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"'{text}' is not N,N")
    return tuple(map(int, parts))


def _range(text: str) -> tuple[str, int | tuple[int, int]]:
    """``NAME=N`` or ``NAME=LO..HI``."""
    name, value = _pair(text)
    lo, dots, hi = value.partition("..")
    if not (lo.isdecimal() and (hi.isdecimal() if dots else True)):
        raise click.BadParameter(f"'{text}' is neither NAME=N nor NAME=LO..HI")
    return name, (int(lo), int(hi)) if dots else int(lo)


target_option = click.option(
    "--target", default="cpu", metavar="TARGET[:DEVICE[,DEVICE]...]", show_default=True
)
dims_option = click.option(
    *("--dim", "dims"),
    type=_range,
    multiple=True,
    metavar="NAME=N|LO..HI",
    help="Fix a dimension of the inputs, or give its range.",
)
cache_option = click.option(
    "--cache",
    type=click.Choice(["auto", "pages", "inputs"]),
    default="auto",
    show_default=True,
    help="Where an ONNX decoder's past keys and values go: pages of a session, or as in the file.",
)
at_option = click.option(
    "--at",
    type=_size,
    multiple=True,
    metavar="NAME=N",
    help="A size that figures are for; else 1 for a batch, 128 for others.",
)
inputs_option = click.option(
    *("--input", "inputs"), type=_pair, multiple=True, metavar="NAME=FILE.npy"
)


@click.group(cls=Doors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tapeout.__version__, prog_name="tapeout")
def main() -> None:
    """Compile trained model graphs, ahead of time, to programs for accelerators."""


@main.command()
@click.argument("model")
@target_option
@click.option("-o", "--output", metavar="FILE", help="Default: MODEL.tapeout, in this folder.")
@dims_option
@cache_option
@click.option("--hidden", is_flag=True, help="Give a language model's hidden states as well.")
@click.option("--medusa", metavar="FILE", help="Heads that guess ahead, for generate --medusa.")
@click.option("--exits", type=_numbers, default="", metavar="N[,N]", help="Layers to leave after.")
@click.option("--quantize", metavar="SPEC", help="A format, int8+w4g32, auto, or a TOML file.")
@click.option("--calibrate", metavar="DATA", help="Samples for int8: a .npz, or a folder of them.")
@click.option("--max-drop", metavar="METRIC=VALUE", help="What formats may cost: accuracy=0.5.")
@click.option("--evaluate", metavar="DATA", help="What --max-drop is measured on, with labels.")
@click.option("--report", metavar="FILE.json", help="Write there what each layer became, and why.")
@click.option("--sparsify", metavar="SPEC", help="Drop weights: 2:4, 4x1@0.8, or a TOML file.")
@click.option("--format", type=click.Choice(["file", "dir"]), default="file", show_default=True)
@click.option("--print-after", metavar="PASS", help="Print the module after a pass, or 'all'.")
@click.option("--stop-after", metavar="PASS", help="Print the module after a pass, and end there.")
@click.option("--dump", metavar="DIR", help="Write the module after each pass.")
def compile(
    model: str,
    target: str,
    output: str | None,
    dims: Pairs,
    cache: Literal["auto", "pages", "inputs"],
    hidden: bool,
    medusa: str | None,
    exits: Sequence[int],
    quantize: str | None,
    calibrate: str | None,
    max_drop: str | None,
    evaluate: str | None,
    report: str | None,
    sparsify: str | None,
    format: Literal["file", "dir"],
    print_after: str | None,
    stop_after: str | None,
    dump: str | None,
) -> None:
    """Compile MODEL (.onnx, .pt2) to an artifact."""
    from tapeout.frontend import driver, layer_report
    from tapeout.frontend.layer_report import LayerReport
    from tapeout.frontend.quantizing import Quantizing, quantizing
    from tapeout.frontend.terminal import console, progress
    from tapeout.passes.text import module_text

    if report is not None and quantize is None:
        raise click.UsageError("--report is about --quantize")
    look = driver.Look(print_after, Path(dump) if dump is not None else None)
    told: list[LayerReport] = []
    with progress() as note:
        if stop_after is not None:
            chosen = driver.choice(target)
            decoding = driver.Decoding(cache, hidden, Path(medusa) if medusa else None, exits)
            module = driver.import_any(model, _unique(dims), note, decoding=decoding)
            wish = Quantizing(
                *(quantize, calibrate, max_drop, evaluate, sparsify), tell=told.append
            )
            requested = quantizing(module, chosen, wish, note)
            driver.lower(module, look, requested, stop_after)
            text = module_text(module)
        else:
            path = driver.compile(
                *(model, target),
                dims=_unique(dims),
                output=output,
                format=format,
                quantize=quantize,
                calibrate=calibrate,
                max_drop=max_drop,
                evaluate=evaluate,
                sparsify=sparsify,
                cache=cache,
                hidden=hidden,
                medusa=medusa,
                exits=exits,
                look=look,
                note=note,
                tell=told.append,
            )
            text = f"{path}\n"
    for each in told:
        layer_report.show(each, console(stderr=True), all_rows=max_drop is not None)
        if report is not None:
            layer_report.write(each, Path(report))
    click.echo(text, nl=False)


@main.command()
@click.argument("artifact")
@inputs_option
@click.option("--output", metavar="DIR", help="Write each output there as NAME.npy.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: one per CPU.")
@click.option("--emulate", is_flag=True, help="Run a GPU's code on this CPU, checked: slow.")
def run(
    artifact: str, inputs: Pairs, output: str | None, threads: int | None, emulate: bool
) -> None:
    """Run ARTIFACT once; without --output, print a line about each output."""
    from tapeout.frontend.arrays import read_inputs, summary, write_outputs
    from tapeout.runtime.errors import printable
    from tapeout.runtime.program import load

    given = read_inputs(_unique(inputs).items())
    if emulate:
        from tapeout.frontend.emulate import emulated

        opened = emulated(artifact, threads=threads)
    else:
        opened = load(artifact, threads=threads)
    with opened as program:
        outputs = program.run(given)
    if output is not None:
        lines = [str(path) for path in write_outputs(Path(output), outputs)]
    else:
        lines = [summary(name, array) for name, array in outputs.items()]
    for line in lines:
        click.echo(printable(line))


@main.command()
@click.argument("artifact")
@click.option("--prompt", required=True, metavar="TEXT")
@click.option("--tokenizer", required=True, metavar="FILE", help="A tokenizer.json.")
@click.option("--tokens", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--stop", multiple=True, metavar="TOKEN", help="Ends the text; may be repeated.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0: greedy.")
@click.option("--top-k", type=int, default=0, help="Of that many tokens; 0: of all.")
@click.option("--top-p", type=float, default=1.0, show_default=True)
@click.option("--min-p", type=float, default=0.0, show_default=True)
@click.option("--repetition-penalty", type=float, default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--draft", metavar="ARTIFACT", help="A smaller model that guesses ahead.")
@click.option("--lookup", is_flag=True, help="Guess ahead from the text itself.")
@click.option("--medusa", is_flag=True, help="Guess ahead by heads that ARTIFACT has.")
@click.option("--draft-exit", type=int, metavar="N", help="Guess by ARTIFACT's first N layers.")
@click.option(
    "--ahead",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Guesses a step: a line of them, of --medusa a tree.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Default: one per CPU.")
def generate(
    artifact: str,
    prompt: str,
    tokenizer: str,
    tokens: int,
    stop: Sequence[str],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    seed: int,
    draft: str | None,
    lookup: bool,
    medusa: bool,
    draft_exit: int | None,
    ahead: int,
    threads: int | None,
) -> None:
    """Write text with the language model ARTIFACT; its speed goes to standard error."""
    from tapeout.frontend import generate as generate_
    from tapeout.runtime.sampling import Sampler

    if (draft is not None) + lookup + medusa + (draft_exit is not None) > 1:
        raise click.UsageError("--draft, --draft-exit, --lookup and --medusa exclude each other")
    sampler = Sampler(temperature, top_k, top_p, min_p, repetition_penalty, seed)
    path = Path(draft) if draft is not None else None
    wish = generate_.Wish(
        *(prompt, Path(tokenizer), tokens, stop, path, lookup, medusa, ahead, draft_exit)
    )
    click.echo(prompt, nl=False)
    speed = generate_.run(
        Path(artifact), wish, sampler, threads, lambda piece: click.echo(piece, nl=False)
    )
    click.echo()
    click.echo(speed.line, err=True)


@main.command()
@click.argument("model_or_artifact")
@target_option
@dims_option
@at_option
@inputs_option
@click.option("--threads", type=click.IntRange(min=1), help="Default: one per CPU.")
@click.option("--against", default="", metavar="ENGINE[,ENGINE]", help="onnxruntime, openvino.")
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--profile", is_flag=True, help="Time every kernel too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    model_or_artifact: str,
    target: str,
    dims: Pairs,
    at: Pairs,
    inputs: Pairs,
    threads: int | None,
    against: str,
    rounds: int,
    profile: bool,
    as_json: bool,
) -> None:
    """Measure an artifact, or a model, which is compiled first; also against other engines."""
    from tapeout.frontend import bench as bench_
    from tapeout.frontend.arrays import read_inputs
    from tapeout.frontend.terminal import console, progress

    path = Path(model_or_artifact)
    engines = [name for name in against.split(",") if name]
    wish = bench_.Wish(
        threads, engines, read_inputs(_unique(inputs).items()), _unique(at), rounds, profile
    )
    with progress() as note:
        if not _is_artifact(path):
            from tapeout.frontend import driver

            def compile_to(output: Path) -> Path:
                # Other engines have the file's inputs.
                return driver.compile(
                    path, target, dims=_unique(dims), output=output, cache="inputs", note=note
                )

            result = bench_.bench_model(path, compile_to, wish, note)
        elif engines or dims:
            raise click.UsageError("--against and --dim need a model, not an artifact")
        else:
            result = bench_.bench_artifact(path, wish, note)
    if as_json:
        import json

        click.echo(json.dumps(result.tree(), indent=1))
    else:
        bench_.show(result, console())


@main.command()
@click.argument("model")
@target_option
@dims_option
@at_option
@cache_option
@click.option("--quantize", metavar="SPEC", help="As for compile: what layers would become.")
@click.option("--calibrate", metavar="DATA", help="As for compile.")
@click.option("--gflops", type=float, help="A core's peak, for the modelled times.")
@click.option("--gb-per-s", type=float, help="Its memory's bandwidth; default: the device's both.")
def explain(
    model: str,
    target: str,
    dims: Pairs,
    at: Pairs,
    cache: Literal["auto", "pages", "inputs"],
    quantize: str | None,
    calibrate: str | None,
    gflops: float | None,
    gb_per_s: float | None,
) -> None:
    """Say what of MODEL (.onnx, .pt2) will not compile, all at once; else what it will cost."""
    from tapeout.frontend import explain as explain_
    from tapeout.frontend.terminal import console, progress

    if (gflops is None) != (gb_per_s is None):
        raise click.UsageError("--gflops and --gb-per-s go together")
    asked = (quantize, calibrate, cache)
    with progress() as note:
        found = explain_.explain(Path(model), target, _unique(dims), _unique(at), note, *asked)
    own = found.ceilings
    if gflops and gb_per_s:
        own = replace(own, gflops=gflops, gb_per_s=gb_per_s, source="as given")
    explain_.show(found, console(), own)


@main.command()
@click.argument("model")
@target_option
@dims_option
@click.option("--quantize", metavar="SPEC", help="As for compile.")
@click.option("--calibrate", metavar="DATA", help="As for compile; its first sample is compared.")
@click.option("--sparsify", metavar="SPEC", help="As for compile.")
@click.option(
    *("--at", "at"), type=_size, multiple=True, metavar="NAME=N", help="A size of made-up inputs."
)
@inputs_option
@click.option(
    "--rtol", type=click.FloatRange(min=0), default=1e-4, show_default=True, help="Of the largest."
)
@click.option("--atol", type=click.FloatRange(min=0), default=0.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bisect(
    model: str,
    target: str,
    dims: Pairs,
    quantize: str | None,
    calibrate: str | None,
    sparsify: str | None,
    at: Pairs,
    inputs: Pairs,
    rtol: float,
    atol: float,
    as_json: bool,
) -> None:
    """Run MODEL compiled and by the reference, and name the pass and the kernel where they part.

    Exit status 1 and coded errors where something parts.
    """
    from tapeout.frontend import bisect as bisect_
    from tapeout.frontend.agreement import Tolerance
    from tapeout.frontend.arrays import read_inputs
    from tapeout.frontend.bisect_view import show
    from tapeout.frontend.terminal import console, progress
    from tapeout.ir.errors import together

    if at and inputs:
        raise click.UsageError("--at is for inputs that are made up, --input gives them")
    wish = bisect_.Wish(
        *(read_inputs(_unique(inputs).items()), _unique(at), quantize, calibrate, sparsify),
        Tolerance(rtol, atol),
    )
    with progress() as note:
        found = bisect_.bisect(Path(model), target, _unique(dims), wish, note)
    if as_json:
        import json

        click.echo(json.dumps(found.tree(), indent=1))
    else:
        show(found, console())
    if found.errors:
        raise together(found.errors, "the compiled model parts from the reference")


@main.command()
@click.argument("file")
@click.option("-p", "--passes", required=True, metavar="PASS[,PASS]...")
@click.option("-o", "--output", metavar="FILE", help="Default: standard output.")
@click.option("--print-after", metavar="PASS", help="Print the module after a pass, or 'all'.")
@click.option("--verify-each", is_flag=True, help="Verify after each pass, not only at the end.")
def opt(
    file: str, passes: str, output: str | None, print_after: str | None, verify_each: bool
) -> None:
    """Run passes over the text of a module: FILE, or - for standard input."""
    from tapeout.frontend.text import read
    from tapeout.passes.manager import run
    from tapeout.passes.pipeline import parse_pipeline
    from tapeout.passes.text import module_text, write_module

    chosen = parse_pipeline(passes)
    module = read(file)
    verify: Literal["each", "end"] = "each" if verify_each else "end"
    run(module, chosen, verify=verify, print_after=print_after)
    if output is None:
        click.echo(module_text(module), nl=False)
    else:
        write_module(module, Path(output))


@main.command()
def targets() -> None:
    """List targets and devices, with what each needs and whether it is installed."""
    from tapeout.frontend.inventory import inventory, show
    from tapeout.frontend.terminal import console

    show(inventory(), console())


def _unique(pairs: Pairs) -> Mapping[str, Any]:
    """The pairs by name; the same name twice is wrong usage."""
    named: dict[str, Any] = {}
    for name, value in pairs:
        if name in named:
            raise click.UsageError(f"'{name}' is given twice")
        named[name] = value
    return named


def _is_artifact(path: Path) -> bool:
    """A folder, or a zip that is no .pt2; what cannot be read is left to who reports that."""
    if path.is_dir() or path.suffix == ".tapeout":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04" and path.suffix != ".pt2"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
