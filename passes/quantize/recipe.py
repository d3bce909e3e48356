"""Which layer takes which format: one for all, or a TOML file.

default = "w4g32"              # where no pattern matches; none if it is left out

[layers]                       # patterns as in a shell; the first that matches decides
"*/lm_head/*" = "w8"
"encoder.layer.0.*" = "none"
"*attention*" = "int8,entropy"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from tapeout.ir.errors import CompileError, together
from tapeout.passes.quantize.formats import LayerFormat, parse_format

MOST_BYTES = 1 << 20
"""No list of layers is longer; what is, is another kind of file."""


T = TypeVar("T")
"""What a layer takes: a format, or a sparsity."""

Parse = Callable[[str, Sequence[tuple[str, object]]], T | None]
"""What a text means; the facts say in errors where it stands."""


@dataclass(frozen=True)
class Rule(Generic[T]):
    """Layers whose names match ``pattern`` take ``format``; None leaves them as they are."""

    pattern: str
    format: T | None


@dataclass(frozen=True)
class ByLayer(Generic[T]):
    """What every layer takes: of the first rule that matches, or the default."""

    default: T | None
    rules: tuple[Rule[T], ...] = ()
    source: str = "--quantize"

    def of(self, layer: str) -> T | None:
        """The format of the layer of that name; None leaves it as it is."""
        matching = (rule.format for rule in self.rules if fnmatchcase(layer, rule.pattern))
        return next(matching, self.default)

    def refuse_unused(self, layers: Iterable[str]) -> None:
        """E0111 for rules that match no layer: a slip of the pen would pass for a choice."""
        names = list(layers)
        unused = [r for r in self.rules if not any(fnmatchcase(n, r.pattern) for n in names)]
        if unused:
            raise together([self._unused(rule, names) for rule in unused], "patterns of no layer")

    def _unused(self, rule: Rule[T], names: list[str]) -> CompileError:
        bare = rule.pattern.strip("*")
        near = get_close_matches(bare, names, 3, 0.3) or names[:3]
        return CompileError(
            "E0111",
            f"no layer matches the pattern '{rule.pattern}'",
            [("file", self.source), ("layers", f"{len(names)}, such as {', '.join(near)}")],
            "mend the pattern or remove it; [*] stands for a star in a name",
        )


class Recipe(ByLayer[LayerFormat]):
    """A format for every layer."""


def parse_quantize(text: str) -> Recipe:
    """The recipe of ``--quantize TEXT``; errors as :func:`parse_recipe`."""
    return Recipe(*parse_recipe(text, "--quantize", parse_format))


def parse_recipe(
    text: str, option: str, parse: Parse[T]
) -> tuple[T | None, tuple[Rule[T], ...], str]:
    """What an option says, as :class:`ByLayer` takes it: one for all layers, or a ``.toml`` file's.

    Errors: E0111 for what is no format, all in a file at once; E0112 for a file that cannot be
    read.
    """
    if not text.strip().endswith(".toml"):
        return parse(text, [("where", option)]), (), option
    file = Path(text.strip())
    table = _read(file)
    layers = table.get("layers", {})
    errors = [_not_known(file, key) for key in table if key not in ("default", "layers")]
    if not isinstance(layers, dict):
        raise _unreadable(file, "'layers' is no table of patterns and formats")
    default = _format(file, "default", table.get("default", "none"), parse, errors)
    rules = tuple(
        Rule(pattern, _format(file, f'layers."{pattern}"', value, parse, errors))
        for pattern, value in cast(Mapping[str, object], layers).items()
    )
    if errors:
        raise together(errors, f"{file} has formats that do not exist")
    return default, rules, str(file)


def _format(
    file: Path, key: str, value: object, parse: Parse[T], errors: list[CompileError]
) -> T | None:
    facts = [("file", file), ("key", key)]
    if not isinstance(value, str):
        quote = " (put a name with dots in quotes)" if isinstance(value, dict) else ""
        what = f"'{key}' is no format in quotes{quote}"
        errors.append(CompileError("E0111", what, facts, 'write a format, as in "w4g32"'))
        return None
    try:
        return parse(value, facts)
    except CompileError as error:
        errors.append(error)
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _unreadable(file, f"it is longer than {MOST_BYTES} bytes")
        return tomllib.loads(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, str(error)) from error


def _unreadable(file: Path, why: str) -> CompileError:
    return CompileError(
        "E0112",
        "the file of formats cannot be read",
        [("file", file), ("why", why)],
        'it is TOML: default = "w4g32", and [layers] with patterns, as in "*head*" = "w8"',
    )


def _not_known(file: Path, key: str) -> CompileError:
    return CompileError(
        "E0111",
        f"there is no setting '{key}'",
        [("file", file), ("known", "default, layers")],
        "patterns stand under [layers]",
    )
