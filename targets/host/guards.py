"""Guards as C: sizes that do not go together are refused before anything relies on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeout.ir.expr import as_symbol
from tapeout.ir.guards import Guard
from tapeout.targets.host.text import c_size, c_string

BREAKS = {"==": "!=", ">=": "<"}
"""By the relation that must hold: the C operator that says that it does not."""


def check_lines(
    each: Guard, late: bool, names: Mapping[str, str], places: Mapping[str, str]
) -> list[str]:
    """Statements that return an error unless a guard holds.

    ``late``: data decides a size in it, so a value is at fault and not a shape. ``names`` maps
    symbols to C text, ``places`` to where a caller finds them. Sizes that overflow are refused
    too, as too large.
    """
    lines = [
        "{",
        f"  const int64_t left = {c_size(each.left, names)};",
        f"  const int64_t right = {c_size(each.right, names)};",
    ]
    if counts(each):
        lines += [
            "  if (left == INT64_MAX || right == INT64_MAX)",
            "    return too_large(s);",
        ]
    lines += [
        f"  if (left {BREAKS[each.relation]} right)",
        *_refusal(each, late, names, places),
        "}",
    ]
    return lines


def counts(each: Guard) -> bool:
    """Whether a side is computed, and so may be too large."""
    return any(e.constant is None and as_symbol(e) is None for e in (each.left, each.right))


def _refusal(
    each: Guard, late: bool, names: Mapping[str, str], places: Mapping[str, str]
) -> list[str]:
    code, whose = ("RT_E_VALUE", "values") if late else ("RT_E_CONSTRAINT", "sizes")
    got = ", ".join(["%.60s = %lld%s"] * len(each.symbols))
    rows = ["needed: %.200s", "by: %s", f"got: {got}"]
    where = {s: f" ({places.get(s.name, 'decided by data')})" for s in each.symbols}
    values = [
        f"{c_string(s.name)}, (long long){names[s.name]}, {c_string(where[s])}"
        for s in each.symbols
    ]
    arguments = [c_string(each.text), c_string(each.where), *values]
    if each.fix:
        rows.append("fix: %.300s")
        arguments.append(c_string(each.fix))
    return [
        f"    return rt_fail(s, {code},",
        f'                   "the {whose} of the inputs do not fit together"',
        *(f'                   "\\n  {row}"' for row in rows[:-1]),
        f'                   "\\n  {rows[-1]}",',
        *_listed(arguments),
    ]


def _listed(arguments: Sequence[str]) -> list[str]:
    return [f"                   {a}," for a in arguments[:-1]] + [
        f"                   {arguments[-1]});"
    ]


TOO_LARGE = """\
static int too_large(rt_session *s)
{
  return rt_fail(s, RT_E_MEMORY,
                 "the inputs lead to a size that is too large to count\\n"
                 "  fix: use smaller inputs");
}

"""
