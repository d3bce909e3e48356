"""``manifest.json``: what an artifact holds, takes, gives and was measured to be.

Named tuples with hand-written reading: a manifest is untrusted, and this module is on the way from
process start to the first output, where a dataclass costs half a millisecond each to define.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar, cast

from tapeout.runtime.digest import sha256
from tapeout.runtime.errors import RunError

SCHEMA = 2
NAME = "manifest.json"
WEIGHTS = "weights.bin"
DTYPES = (
    *("f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool"),
    *("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0"),
    *("i4", "u4", "i2", "u2", "f4e2m1"),
)
"""Element types, in the order of ``tapeout_dtype`` in ``c/tapeout.h``, which counts from 1.

The last row's are narrower than a byte and lie one to a byte.
"""

Size = int | str
"""A fixed size, or an expression of symbols in Python's syntax: ``"2*S + 1"``."""

T = TypeVar("T")
Encoded = bytes  # within a class with a field `bytes`, the plain name is that field


class Symbol(NamedTuple):
    """A size that the inputs decide, in ``lo..hi``, both allowed."""

    name: str
    lo: int
    hi: int


class Port(NamedTuple):
    """An input or output: ``shape`` holds sizes and expressions of symbols."""

    name: str
    dtype: str
    shape: tuple[Size, ...]


class State(NamedTuple):
    """What a run leaves for the next one: like an input, that a run changes in place.

    ``file`` holds its first contents, row-major; without one it begins as zeros.
    """

    name: str
    dtype: str
    shape: tuple[Size, ...]
    file: str = ""

    @property
    def port(self) -> Port:
        """The state as the input that it is to the program."""
        return Port(self.name, self.dtype, self.shape)


class Code(NamedTuple):
    """One built form of the program: needs ``machine`` (as ``uname -m``) and CPU ``features``.

    ``features`` are Linux's own names (``avx512_vnni``, ``asimddp``); several forms stand best
    first, and the loader takes the first that fits.
    """

    device: str
    machine: str
    features: tuple[str, ...]
    file: str


class Kernel(NamedTuple):
    """One kernel, in the order of the profile counters: what one run of it costs."""

    name: str
    flops: Size = 0
    bytes: Size = 0


class Need(NamedTuple):
    """What a run checks of sizes: ``text`` (``M == N``), relied on by operators of a kind.

    Refused with E0514, or, when ``late``, with E0517: data decides one of the sizes. It has to
    hold only where the run comes by: inside of a branch it is checked there.
    """

    text: str
    by: str
    late: bool


class Accuracy(NamedTuple):
    """How far ``output`` is from the reference, by ``metric``, and how that was found out."""

    output: str
    metric: str
    value: float
    source: str


class File(NamedTuple):
    """Size and SHA-256 of one file, and its fast checksum (``c/checksum.c``)."""

    bytes: int
    sha256: str
    checksum: str = ""


class Manifest(NamedTuple):
    """Everything that stands in ``manifest.json``; ``write`` fills in ``files``."""

    model: str
    target: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    code: tuple[Code, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    needs: tuple[Need, ...] = ()
    states: tuple[State, ...] = ()
    buckets: Mapping[str, tuple[int, ...]] = {}
    kernels: tuple[Kernel, ...] = ()
    flops: Size = 0
    bytes: Size = 0
    arena_bytes: Size = 0
    arena_bound: Size = 0
    """What no placement of the same buffers can go below; 0 where sizes are placed at run time."""
    accuracy: tuple[Accuracy, ...] = ()
    generator: str = ""
    files: Mapping[str, File] = {}
    schema: int = SCHEMA

    def to_json(self) -> Encoded:
        """Return the text of ``manifest.json``: keys sorted, one byte string per manifest."""
        return seal(cast("dict[str, object]", _tree(self)))

    @staticmethod
    def from_json(text: Encoded) -> "Manifest":
        """Read a manifest; E0502 when it is malformed or of another schema."""
        try:
            tree: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _malformed("it is not JSON", error) from None
        row = _Row(tree, NAME)
        if row.tree.pop("seal", None) != _digest(row.tree):
            raise _malformed("it was changed after it was written: its seal is broken")
        if (schema := row.get("schema", int)) != SCHEMA:
            raise RunError(
                "E0502",
                "the artifact was written for another version of the runtime",
                (("schema", schema), ("known", SCHEMA)),
                "compile the model again, or install the tapeout that compiled it",
            )
        return _manifest(row)


def seal(tree: dict[str, object]) -> bytes:
    """Return the text of a manifest that guards itself: ``seal`` is the SHA-256 of the rest."""
    sealed = {**tree, "seal": _digest(tree)}
    return (json.dumps(sealed, indent=1, sort_keys=True) + "\n").encode()


def _digest(tree: dict[str, object]) -> str:
    text = json.dumps(tree, sort_keys=True).encode()
    return sha256([text], len(text))


def _tree(value: object) -> object:
    """Named tuples as JSON objects, other tuples as lists."""
    if isinstance(value, Mapping):
        rows = cast("Mapping[str, object]", value)
        return {key: _tree(item) for key, item in rows.items()}
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        names: tuple[str, ...] | None = getattr(items, "_fields", None)
        parts = [_tree(item) for item in items]
        return parts if names is None else dict(zip(names, parts, strict=True))
    return value


def _manifest(row: "_Row") -> Manifest:
    return Manifest(
        model=row.get("model", str),
        target=row.get("target", str),
        inputs=row.each("inputs", _port),
        outputs=row.each("outputs", _port),
        code=row.each("code", _code),
        symbols=row.each("symbols", _symbol),
        needs=row.each("needs", _need),
        states=row.each("states", _state),
        buckets={k: row.child("buckets").list(k, int) for k in row.child("buckets").tree},
        kernels=row.each(
            "kernels", lambda r: Kernel(r.get("name", str), r.size("flops"), r.size("bytes"))
        ),
        flops=row.size("flops"),
        bytes=row.size("bytes"),
        arena_bytes=row.size("arena_bytes"),
        arena_bound=row.size("arena_bound"),
        accuracy=row.each("accuracy", _accuracy),
        generator=row.get("generator", str),
        files={name: _file(row.child("files").child(name)) for name in row.child("files").tree},
    )


def _port(row: "_Row") -> Port:
    dtype = row.get("dtype", str)
    if dtype not in DTYPES:
        raise _malformed(f"{row.where} has the unknown element type '{dtype}'")
    return Port(row.get("name", str), dtype, row.list("shape", (int, str)))


def _state(row: "_Row") -> State:
    return State(*_port(row), row.get("file", str))


def _symbol(row: "_Row") -> Symbol:
    return Symbol(row.get("name", str), row.get("lo", int), row.get("hi", int))


def _need(row: "_Row") -> Need:
    return Need(row.get("text", str), row.get("by", str), row.flag("late"))


def _code(row: "_Row") -> Code:
    return Code(
        row.get("device", str),
        row.get("machine", str),
        row.list("features", str),
        row.get("file", str),
    )


def _accuracy(row: "_Row") -> Accuracy:
    value = float(row.get("value", (int, float)))
    return Accuracy(row.get("output", str), row.get("metric", str), value, row.get("source", str))


def _file(row: "_Row") -> File:
    size, digest = row.get("bytes", int), row.get("sha256", str)
    if size < 0 or len(digest) != 64:
        raise _malformed(f"{row.where} has no valid size and SHA-256")
    return File(size, digest, row.get("checksum", str))


class _Row:
    """One JSON object on the way in, and where it stands, for the message."""

    def __init__(self, tree: object, where: str) -> None:
        if not isinstance(tree, dict):
            raise _malformed(f"{where} is not an object")
        self.tree = cast("dict[str, object]", tree)
        self.where = where

    def get(self, key: str, kind: type[T] | tuple[type[T], ...]) -> T:
        """Return ``tree[key]``, which must be a ``kind``; a bool is no int here."""
        return _checked(self.tree.get(key), kind, f"{self.where}.{key}")

    def flag(self, key: str) -> bool:
        """Return ``tree[key]``, which must be true or false."""
        value = self.tree.get(key)
        if not isinstance(value, bool):
            raise _malformed(f"{self.where}.{key} is missing or of the wrong kind")
        return value

    def size(self, key: str) -> Size:
        """Return a size: a number or an expression."""
        return self.get(key, (int, str))

    def list(self, key: str, kind: type[T] | tuple[type[T], ...]) -> tuple[T, ...]:
        """Return a list of ``kind``."""
        where = f"{self.where}.{key}"
        items = cast("list[object]", _checked(self.tree.get(key), list, where))
        return tuple(_checked(item, kind, where) for item in items)

    def child(self, key: str) -> "_Row":
        """Return the object under ``key``."""
        return _Row(self.tree.get(key), f"{self.where}.{key}")

    def each(self, key: str, read: "Callable[[_Row], T]") -> tuple[T, ...]:
        """Read each object of a list."""
        where = f"{self.where}.{key}"
        items = cast("list[object]", _checked(self.tree.get(key), list, where))
        return tuple(read(_Row(item, f"{where}[{i}]")) for i, item in enumerate(items))


def _checked(value: object, kind: type[T] | tuple[type[T], ...], where: str) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _malformed(f"{where} is missing or of the wrong kind")
    return value


def _malformed(why: str, error: object = None) -> RunError:
    facts = [("why", why), *([("error", error)] if error else [])]
    return RunError("E0502", "the artifact's manifest is malformed", facts, "compile again")
