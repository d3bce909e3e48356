"""Names that would break out of generated code, collide in it, or confuse a terminal."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from onnx import helper

from .base import COMPILES, EITHER, MARKER, constant, hostile, model, save, value


def _chain(folder: Path, names: Sequence[str]) -> Path:
    """Save a model whose input, inner values, weight, nodes and output carry ``names``."""
    nodes = [
        helper.make_node("Add", [read, "w" + write], [write], name=write)
        for read, write in pairwise(names)
    ]
    weights = [constant("w" + name, [1.0, 2.0]) for name in names[1:]]
    proto = model(nodes, [value(names[0])], [value(names[-1])], weights)
    proto.graph.name = names[0]
    proto.producer_name = names[-1]
    proto.doc_string = names[-1]
    return save(folder, proto)


@hostile(COMPILES)
def names_with_quotes_and_newlines(folder: Path) -> Path:
    inner = f'm"; system("{MARKER}"); "'
    return _chain(folder, [f"x\n#include <{MARKER}>\n", inner, f"y\\\"'\r\n{MARKER}\t"])


@hostile(COMPILES)
def names_that_end_a_comment(folder: Path) -> Path:
    return _chain(folder, [f"x*/ int {MARKER}; /*", f"m//{MARKER}\\\n", f"y*/{MARKER}"])


@hostile(COMPILES)
def names_with_trigraphs(folder: Path) -> Path:
    return _chain(folder, [f"x??/\n{MARKER}", f"m??'{MARKER}??=", f"y??/{MARKER}"])


@hostile(COMPILES)
def names_with_format_directives_and_templates(folder: Path) -> Path:
    names = [f"%n%s{MARKER}", "{{ " + MARKER + " }}", "{% raw %}" + MARKER + "${" + MARKER + "}"]
    return _chain(folder, names)


@hostile(COMPILES)
def names_that_are_c_keywords(folder: Path) -> Path:
    return _chain(folder, ["int", "return", "main", "__attribute__", "NULL", "restrict"])


@hostile(COMPILES)
def names_that_collide_once_sanitised(folder: Path) -> Path:
    return _chain(folder, ["a.b", "a_b", "a/b", "a-b", "a b", "a__b"])


@hostile(COMPILES)
def names_with_zero_bytes_and_controls(folder: Path) -> Path:
    return _chain(folder, [f"x\0{MARKER}", f"\x1b[2J{MARKER}", f"y\x07\x7f{MARKER}"])


@hostile(COMPILES)
def names_that_read_right_to_left(folder: Path) -> Path:
    return _chain(folder, [f"\u202ex{MARKER}", f"\u2066m{MARKER}\u2069", f"y\ufeff{MARKER}"])


@hostile(COMPILES)
def names_that_are_paths(folder: Path) -> Path:
    """An entry of the artifact, or a dumped file, could be written outside of its folder."""
    return _chain(folder, [f"../../{MARKER}", f"/tmp/{MARKER}", f"C:\\{MARKER}\\..\\"])


@hostile(COMPILES)
def names_of_sixty_thousand_characters(folder: Path) -> Path:
    return _chain(folder, ["x" * 60_000, "m" * 60_000, MARKER * 10_000])


@hostile(EITHER, dims={"S": (1, 4)})
def dimension_names_that_are_code(folder: Path) -> Path:
    shape = ("S", f"N*/{MARKER}[0")
    return save(folder, model(inputs=[value("x", shape)], outputs=[value("y", shape)]))


@hostile(EITHER)
def domain_and_operator_names_that_are_code(folder: Path) -> Path:
    node = helper.make_node(f'Relu"*/{MARKER}', ["x"], ["y"], domain=f"dom*/\n{MARKER}")
    proto = model([node])
    proto.opset_import.append(helper.make_opsetid(node.domain, 1))
    return save(folder, proto)
