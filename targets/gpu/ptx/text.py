"""What PTX text becomes once it is read: modules, entries, instructions and their operands."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Register:
    """``%r1``, ``%tid.x``, a name of an inner scope, or ``_``, which swallows what it is given."""

    name: str


@dataclass(frozen=True)
class Immediate:
    """A literal as bits: ``-1``, ``0x10U``, ``0f3F800000`` (one), ``0d...``."""

    value: int


@dataclass(frozen=True)
class Symbol:
    """The address of a variable, the name of a parameter, or a label."""

    name: str


@dataclass(frozen=True)
class Address:
    """``[base + offset]``, ``offset`` in bytes."""

    base: Register | Symbol | Immediate
    offset: int


@dataclass(frozen=True)
class Vector:
    """``{a, b, ...}``."""

    parts: tuple["Operand", ...]


@dataclass(frozen=True)
class Pair:
    """``p|q``: two results of one instruction."""

    first: "Operand"
    second: "Operand"


@dataclass(frozen=True)
class Not:
    """``!p``."""

    operand: "Operand"


Operand = Register | Immediate | Symbol | Address | Vector | Pair | Not


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``@guard root.modifiers operands``, and where it stands.

    ``source`` is the place in the kernel's own source that ``.loc`` names, or empty.
    """

    line: int
    text: str
    source: str
    guard: str
    unless: bool
    root: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Label:
    """A place that branches name."""

    name: str


@dataclass(frozen=True)
class Variable:
    """A variable in a state space: ``nbytes`` is 0 for ``extern`` shared memory."""

    name: str
    space: str
    align: int
    nbytes: int
    data: bytes = b""


@dataclass
class Entry:
    """A kernel: parameters as ``(name, type)``, registers with their type, and its body."""

    name: str
    parameters: list[tuple[str, str]]
    registers: dict[str, str] = field(default_factory=dict[str, str])
    variables: list[Variable] = field(default_factory=list[Variable])
    body: list[Instruction | Label] = field(default_factory=list[Instruction | Label])
    threads: int = 0


@dataclass
class Module:
    """A PTX file: the kernels and the variables outside of them."""

    entries: list[Entry] = field(default_factory=list[Entry])
    variables: list[Variable] = field(default_factory=list[Variable])
