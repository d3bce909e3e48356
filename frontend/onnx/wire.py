"""The bytes of a model file, walked before protobuf parses them.

A parser turns two bytes of an empty message into hundreds, follows any nesting up to its own
limit, and copies every weight twice. So the encoded form is walked first, once, without
descending by recursion further than a fixed depth: it is counted against the caps, its text is
checked to be UTF-8, fields that the compiler never reads are left out, and each ``raw_data`` is
replaced by a token, the number of a span of the source. What protobuf then parses is small, and
weights are views of the mapped file.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import onnx

from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.limits import Limits
from tapeout.ir.errors import CompileError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KEEP, _DROP, _TEXT, _RAW, _MESSAGE = range(5)
_TOKEN_BYTES = 8

_NEVER_READ = {
    "doc_string",
    "denotation",
    "metadata_props",
    "value_info",
    "quantization_annotation",
    "training_info",
    "configuration",
    "device_configurations",
}

_SCALAR_WIRE = {
    **dict.fromkeys(("TYPE_DOUBLE", "TYPE_FIXED64", "TYPE_SFIXED64"), _FIXED64),
    **dict.fromkeys(("TYPE_FLOAT", "TYPE_FIXED32", "TYPE_SFIXED32"), _FIXED32),
    **dict.fromkeys(("TYPE_STRING", "TYPE_BYTES", "TYPE_MESSAGE"), _BYTES),
}


class _Rule(NamedTuple):
    """What to do with one field: its name, the wire types it may have, the action, its message."""

    name: str
    wires: int
    action: int
    child: str


@dataclass(frozen=True)
class Stripped:
    """A model file ready to parse: ``encoded`` without weights, and where each weight lies.

    ``spans[n]`` is ``(offset, length)`` in the source, in bytes, of the ``raw_data`` whose token
    is ``n``.
    """

    encoded: bytes
    spans: list[tuple[int, int]]


def strip(data: memoryview, limits: Limits) -> Stripped:
    """Walk an encoded ``ModelProto``; refuse what breaks a cap or the encoding (E0302, E0304)."""
    walk = _Walk(data, limits)
    walk.message(0, len(data), "onnx.ModelProto", 0, 0)
    return Stripped(b"".join(walk.pieces), walk.spans)


def span_of_token(raw_data: bytes) -> int:
    """Return the number in :attr:`Stripped.spans` that a stripped ``raw_data`` stands for."""
    assert len(raw_data) == _TOKEN_BYTES, "every raw_data of a stripped model is a token"
    return int.from_bytes(raw_data, "little")


def _rule(field: Any) -> _Rule:
    types = {getattr(field, name): name for name in dir(field) if name.startswith("TYPE_")}
    kind = types[field.type]
    wire = _SCALAR_WIRE.get(kind, _VARINT)
    wires = 1 << wire | (1 << _BYTES if field.is_repeated else 0)
    child = field.message_type.full_name if field.message_type else ""
    if field.name in _NEVER_READ:
        return _Rule(field.name, wires, _DROP, child)
    if field.name == "raw_data":
        return _Rule(field.name, wires, _RAW, child)
    actions = {"TYPE_MESSAGE": _MESSAGE, "TYPE_STRING": _TEXT}
    return _Rule(field.name, wires, actions.get(kind, _KEEP), child)


def _rules() -> dict[str, dict[int, _Rule]]:
    """Read the rules of every message from ONNX's own descriptors, so that none can be missed."""
    found: dict[str, dict[int, _Rule]] = {}
    todo: list[Any] = [onnx.ModelProto.DESCRIPTOR]
    while todo:
        message = todo.pop()
        if message.full_name not in found:
            found[message.full_name] = {field.number: _rule(field) for field in message.fields}
            todo += [field.message_type for field in message.fields if field.message_type]
    return found


_RULES = _rules()


class _Walk:
    def __init__(self, data: memoryview, limits: Limits) -> None:
        self.data = data
        self.limits = limits
        self.pieces: list[memoryview | bytes] = []
        self.spans: list[tuple[int, int]] = []
        self.messages = 0
        self.fields = 0
        self.nodes = 0

    def message(self, pos: int, end: int, kind: str, depth: int, nesting: int) -> int:
        """Append the stripped form of the message in ``[pos, end)``; return its size in bytes."""
        nesting += kind == "onnx.GraphProto"
        self._count(kind, depth, nesting, pos)
        rules = _RULES[kind]
        size = 0
        kept = pos
        while pos < end:
            start = pos
            tag = self.data[pos]
            pos += 1
            if tag >= 0x80:
                tag, pos = self._varint(start, end)
            wire = tag & 7
            body, pos = self._value(wire, pos, end)
            rule = rules.get(tag >> 3)
            self.fields += 1
            if self.fields > self.limits.fields:
                self._too_much("protobuf fields", self.fields, self.limits.fields)
            if rule is None:
                if tag >> 3 == 0:
                    self._broken(start, "a field has the number 0")
                size += self._copy(kept, start)
                kept = pos
                continue
            if not rule.wires >> wire & 1:
                self._broken(start, f"'{rule.name}' of {kind} has wire type {wire}")
            if rule.action == _KEEP:
                continue
            if rule.action == _TEXT:
                self._text(body, pos, rule.name)
                continue
            size += self._copy(kept, start)
            kept = pos
            if rule.action == _RAW:
                size += self._token(tag, body, pos)
            elif rule.action == _MESSAGE:
                slot = len(self.pieces)
                self.pieces.append(b"")
                inner = self.message(body, pos, rule.child, depth + 1, nesting)
                self.pieces[slot] = _encoded(tag) + _encoded(inner)
                size += inner + len(self.pieces[slot])
        return size + self._copy(kept, end)

    def _copy(self, start: int, end: int) -> int:
        if end > start:
            self.pieces.append(self.data[start:end])
        return end - start

    def _token(self, tag: int, start: int, end: int) -> int:
        token = len(self.spans).to_bytes(_TOKEN_BYTES, "little")
        self.spans.append((start, end - start))
        piece = _encoded(tag) + _encoded(_TOKEN_BYTES) + token
        self.pieces.append(piece)
        return len(piece)

    def _varint(self, pos: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while pos < end:
            byte = self.data[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, pos
            shift += 7
            if shift >= 70:
                self._broken(pos, "a number runs over ten bytes")
        self._broken(pos, "a number is cut off")

    def _value(self, wire: int, pos: int, end: int) -> tuple[int, int]:
        """Return where the field's content starts and ends."""
        if wire == _BYTES:
            length, pos = self._varint(pos, end)
        elif wire == _VARINT:
            return pos, self._varint(pos, end)[1]
        elif wire == _FIXED32 or wire == _FIXED64:
            length = 4 if wire == _FIXED32 else 8
        else:
            self._broken(pos, f"a field has wire type {wire}")
        if length > end - pos:
            self._broken(pos, f"a field of {length} bytes stands where {end - pos} are left")
        return pos, pos + length

    def _text(self, start: int, end: int, name: str) -> None:
        if end - start > self.limits.text_bytes:
            self._too_much(f"bytes in '{name}'", end - start, self.limits.text_bytes)
        text = bytes(self.data[start:end])
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise CompileError(
                "E0302",
                f"text in the model file is not UTF-8: field '{name}'",
                (("offset", start + error.start), ("bytes", quoted(repr(text[:40])))),
                "write the name again as UTF-8; the file may be damaged",
            ) from None

    def _count(self, kind: str, depth: int, nesting: int, pos: int) -> None:
        self.messages += 1
        self.nodes += kind == "onnx.NodeProto"
        limits = self.limits
        if self.nodes > limits.nodes:
            self._too_much("nodes", f"over {limits.nodes}", limits.nodes)
        if self.messages > limits.messages:
            self._too_much("protobuf messages", f"over {limits.messages}", limits.messages)
        if nesting > limits.nesting:
            self._too_much(f"graphs inside each other at byte {pos}", nesting, limits.nesting)
        if depth > limits.message_depth:
            self._too_much(f"messages inside each other at byte {pos}", depth, limits.message_depth)

    def _broken(self, pos: int, how: str) -> NoReturn:
        raise CompileError(
            "E0302",
            f"this is not a whole ONNX model: {how}",
            (("offset", pos), ("size", len(self.data))),
            "check that the path names an .onnx file and that it was copied in full",
        )

    def _too_much(self, of: str, found: object, limit: int) -> NoReturn:
        raise CompileError(
            "E0304",
            f"the model file holds more {of} than are allowed",
            (("found", found), ("allowed", limit)),
            "raise the cap in load_model(limits=Limits(...)) if you trust the file",
        )


def _encoded(value: int) -> bytes:
    """Return ``value`` as a protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
