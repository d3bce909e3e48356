"""Names of a program's outputs: the paths to them in what the model returns."""

from __future__ import annotations

from torch.export import ExportedProgram
from torch.utils import _pytree as pytree


def output_names(program: ExportedProgram, count: int) -> list[str]:
    """``last_hidden_state`` for a field, ``output_1`` for a place, ``output`` for all there is."""
    spec = program.call_spec.out_spec
    if spec is None or spec.num_leaves != count:
        return [f"output_{i}" for i in range(count)]
    tree = pytree.tree_unflatten(list(range(count)), spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    return _distinct([_name(path) for path in paths])


def _name(path: tuple[object, ...]) -> str:
    parts = [_part(key) for key in path]
    if not parts:
        return "output"
    text = ".".join(parts)
    return f"output_{text}" if parts[0].isdigit() else text


def _part(key: object) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def _distinct(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
