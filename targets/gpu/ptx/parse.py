"""PTX text to :class:`Module`: the grammar that Triton and the inline assembly in it use.

Source: PTX ISA 8.8, chapters 4 (syntax) and 5 (state spaces and variables).
"""

import bisect
import re
from collections.abc import Iterator

from tapeout.ir.errors import CompileError
from tapeout.targets.gpu.ptx.text import (
    Address,
    Entry,
    Immediate,
    Instruction,
    Label,
    Module,
    Not,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
    Vector,
)

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# Directives that end with their line, and the sections of debug information.
LINE = re.compile(
    r"\.(?:loc|file|version|target|address_size|reqntid|maxntid|minnctapersm)\b[^\n]*"
)
SECTION = re.compile(r"\.section\b[^{]*\{[^}]*\}")
ENTRY = re.compile(r"(?:\.visible\s+|\.weak\s+)*\.entry\s+([\w$]+)\s*\(([^)]*)\)")
LABEL = re.compile(r"([\w$]+):(?!:)")
STATEMENT = re.compile(r"[^;]*;")
VARIABLE = re.compile(
    r"(?:\.(?:extern|visible|weak)\s+)*\.(?P<space>shared|global|local|const)\s+"
    r"(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>[a-z]\d+)\s+"
    r"(?P<name>[\w$]+)(?:\[(?P<count>\d*)\])?(?:\s*=\s*(?P<values>[^;]*))?;"
)
REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+([^;]*);")
INSTRUCTION = re.compile(r"(?:@(!?)([\w%$.]+)\s+)?([a-z][\w.:]*)\s*([^;]*);", re.DOTALL)
NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)U?$")
ADDRESS = re.compile(r"\s*(-?[\w%$.]+)\s*(?:\+\s*(-?\w+))?\s*")
FLOAT = re.compile(r"0[fFdD][0-9a-fA-F]+$")


def parse(text: str) -> Module:
    """Return the module that ``text`` says. Errors: E0901 for what is not PTX as known here."""
    return _Parser(text).module()


class _Parser:
    def __init__(self, text: str) -> None:
        blank = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
        self.text = blank
        self.newlines = [i for i, c in enumerate(text) if c == "\n"]
        # The name of a source file stands where .file gives its number, often after the code.
        files = re.findall(r'\.file\s+(\d+)\s+"([^"\n]*)"', blank)
        self.files = {number: name.rpartition("/")[2] for number, name in files}
        self.out = Module()
        self.entry: Entry | None = None
        self.scopes: list[dict[str, str]] = []
        self.source = ""

    def line(self, at: int) -> int:
        return bisect.bisect_left(self.newlines, at) + 1

    def refuse(self, at: int, what: str) -> CompileError:
        text = " ".join(self.text[at : at + 120].split("\n")[0].split())
        where = f"PTX line {self.line(at)}"
        return CompileError("E0901", what, [("where", where), ("text", text)])

    def module(self) -> Module:
        at = 0
        while True:
            while at < len(self.text) and self.text[at].isspace():
                at += 1
            if at == len(self.text):
                return self.out
            at = self.statement(at)

    def statement(self, at: int) -> int:
        """Read what starts at ``at`` and return where it ends."""
        char = self.text[at]
        if char == "{":
            self.scopes.append({})
            return at + 1
        if char == "}":
            if not self.scopes:
                raise self.refuse(at, "a brace closes nothing")
            self.scopes.pop()
            if not self.scopes:
                self.entry = None
            return at + 1
        if found := SECTION.match(self.text, at):
            return found.end()
        if found := LINE.match(self.text, at):
            self.directive(found[0].split())
            return found.end()
        if found := ENTRY.match(self.text, at):
            parameters = [self.parameter(p, at) for p in found[2].split(",") if p.strip()]
            self.entry = Entry(found[1], parameters)
            self.out.entries.append(self.entry)
            return found.end()
        if self.entry and (found := LABEL.match(self.text, at)):
            self.entry.body.append(Label(found[1]))
            return found.end()
        found = STATEMENT.match(self.text, at)
        if found is None:
            raise self.refuse(at, "a statement without an end")
        self.sentence(found[0], at)
        return found.end()

    def directive(self, words: list[str]) -> None:
        if words[0] == ".loc":
            file = self.files.get(words[1], "")
            self.source = f"{file}:{words[2]}" if file and words[2] != "0" else ""
        elif words[0] in (".reqntid", ".maxntid") and self.entry:
            sizes = [int(word) for word in " ".join(words[1:]).replace(",", " ").split()]
            if words[0] == ".reqntid":
                self.entry.threads = sizes[0]

    def parameter(self, text: str, at: int) -> tuple[str, str]:
        words = text.split()
        if words[0] != ".param" or "[" in text:
            raise self.refuse(at, f"a parameter of this kind is not known: {' '.join(words)}")
        return words[-1], words[1].strip(".")

    def sentence(self, text: str, at: int) -> None:
        """Read what ends with a semicolon: a declaration or an instruction."""
        if text.startswith(".pragma"):
            return
        if found := VARIABLE.match(text):
            variable = self.variable(found)
            (self.entry.variables if self.entry else self.out.variables).append(variable)
        elif self.entry and (found := REGISTERS.match(text)):
            for name, rename in self.declared(self.entry, found[2]):
                self.scopes[-1][name] = rename
                self.entry.registers[rename] = found[1]
        elif self.entry and (found := INSTRUCTION.fullmatch(text)):
            self.entry.body.append(self.instruction(found, at))
        else:
            raise self.refuse(at, "this statement is not known to the PTX interpreter")

    def declared(self, entry: Entry, text: str) -> Iterator[tuple[str, str]]:
        """Names in ``%r<4>, t``: each with its own name, unique across scopes."""
        for name in (word.strip() for word in text.split(",")):
            if found := re.fullmatch(r"(.*)<(\d+)>", name):
                names = [f"{found[1]}{i}" for i in range(int(found[2]))]
            else:
                names = [name]
            for one in names:
                taken = one in entry.registers
                yield one, f"{one}@{len(entry.registers)}" if taken else one

    def variable(self, found: re.Match[str]) -> Variable:
        width = int(found["type"][1:]) // 8
        values = re.findall(r"-?\w+", found["values"] or "")
        data = b"".join((int(v, 0) % 256**width).to_bytes(width, "little") for v in values)
        count = int(found["count"] or 0) if found["count"] is not None else 1
        nbytes = count * width
        align = int(found["align"] or width)
        return Variable(found["name"], found["space"], align, nbytes, data.ljust(nbytes, b"\0"))

    def instruction(self, found: re.Match[str], at: int) -> Instruction:
        unless, guard, opcode, operands = found.groups()
        root, *modifiers = opcode.split(".")
        return Instruction(
            self.line(at),
            " ".join(found[0].split()),
            self.source,
            self.renamed(guard) if guard else "",
            bool(unless),
            root,
            tuple(modifiers),
            tuple(self.operand(text, at) for text in split(operands)),
        )

    def renamed(self, name: str) -> str:
        return next((s[name] for s in reversed(self.scopes) if name in s), name)

    def operand(self, text: str, at: int) -> Operand:
        if text.startswith("{"):
            return Vector(tuple(self.operand(part, at) for part in split(text[1:-1])))
        if text.startswith("["):
            found = ADDRESS.fullmatch(text[1:-1])
            if found is None:
                raise self.refuse(at, f"an address of this kind is not known: {text}")
            base, offset = found[1], int(found[2] or "0", 0)
            inner = self.operand(base, at)
            if not isinstance(inner, Register | Symbol | Immediate):
                raise self.refuse(at, f"an address of this kind is not known: {text}")
            return Address(inner, offset)
        if text.startswith("!"):
            return Not(self.operand(text[1:], at))
        if "|" in text:
            first, _, second = text.partition("|")
            return Pair(self.operand(first.strip(), at), self.operand(second.strip(), at))
        if FLOAT.match(text):
            return Immediate(int(text[2:], 16))
        if NUMBER.match(text):
            return Immediate(int(text.rstrip("U"), 0))
        name = self.renamed(text)
        declared = self.entry is not None and name in self.entry.registers
        return Register(name) if declared or text[0] == "%" or text == "_" else Symbol(text)


def split(text: str) -> list[str]:
    """Split at commas outside of braces and brackets."""
    parts, depth, start = list[str](), 0, 0
    for i, char in enumerate(text):
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts
