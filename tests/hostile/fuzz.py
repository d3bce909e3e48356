"""Mutates small valid models and checks that reading them fails in one way only.

    python tests/hostile/fuzz.py --seed 1 --seconds 60 --folder $(mktemp -d)

Each mutant is loaded and its functions are inlined. Anything but success or a CompileError that
prints safely, or a mutant that takes over five seconds, ends the run: the mutant is written to
``--keep`` and the seed printed. The same seed gives the same mutants.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tapeout.frontend.onnx.functions import inline_functions
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.errors import CompileError

SLOWEST_SECONDS = 5.0

_NUMBERS = [
    0,
    1,
    -1,
    2,
    7,
    8,
    21,
    127,
    128,
    255,
    2**31 - 1,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    -(2**63),
]
_TEXTS = ["", "x", "y", "../x", "/etc/passwd", "a\0b", "\u202e", "0", "-1", "9" * 30, "local", "f"]


def _tensors() -> list[TensorProto]:
    kinds = [kind for name, kind in TensorProto.DataType.items() if name != "UNDEFINED"]
    found: list[TensorProto] = []
    for kind in kinds:
        values: list[Any] = [b"s"] * 4 if kind == TensorProto.STRING else [1, 0, 1, 1]
        name = f"w{kind}"
        found.append(helper.make_tensor(name + "t", kind, [2, 2], values))
        if kind != TensorProto.STRING:
            array = numpy_helper.to_array(found[-1])
            found.append(numpy_helper.from_array(array, name))
    return found


def _rich_model() -> onnx.ModelProto:
    """Hold every element type, a sparse tensor, a branch, a sequence and functions."""
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "b", [], [_value("z")], _tensors()[:2]
    )
    nodes = [
        helper.make_node("f", ["x"], ["a"], domain="local", alpha=0.5),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["k"], value=_tensors()[0]),
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("Gelu", ["a"], ["g"], approximate="tanh"),
    ]
    sequence = helper.make_tensor_sequence_value_info("s", 1, ["N", 2])
    boolean = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph(
        nodes, "g", [_value("x"), boolean, sequence], [_value("y")], _tensors()
    )
    values = numpy_helper.from_array(np.ones(2, np.float32), "sp")
    indices = numpy_helper.from_array(np.array([1, 3]), "i")
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 2]))
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type="FLOAT"))
    inner = helper.make_function("local", "h", ["a"], ["b"], [leaky], imports, ["alpha"])
    call = helper.make_node("h", ["a"], ["b"], domain="local", alpha=0.1)
    outer = helper.make_function("local", "f", ["a"], ["b"], [call], imports, ["alpha"])
    return helper.make_model(graph, opset_imports=imports, functions=[inner, outer], ir_version=10)


def _external_model() -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=1, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", "weights.bin"), ("offset", "16"), ("length", "16")):
        weight.external_data.add(key=key, value=text)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [_value("x")], [_value("y")], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, "N"])


def mutate_bytes(encoded: bytes, dice: random.Random) -> bytes:
    """Flip, drop, repeat, insert or cut a few bytes."""
    data = bytearray(encoded)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        size = dice.choice([1, 1, 2, 4, 16, 64])
        match dice.randrange(6):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at:at] = dice.randbytes(size)
            case 4:
                data[at : at + 1] = dice.choice([b"\xff" * 9 + b"\x01", b"\x00", b"\x7f", b"\x80"])
            case _:
                source = dice.randrange(len(data) + 1)
                data[at : at + size] = data[source : source + size]
    if dice.random() < 0.05:
        del data[dice.randrange(len(data) + 1) :]
    return bytes(data)


def mutate_fields(encoded: bytes, dice: random.Random) -> bytes:
    """Set, clear, repeat or empty a few fields, anywhere in the tree of messages."""
    model = onnx.ModelProto.FromString(encoded)
    for _ in range(dice.randint(1, 4)):
        _mutate_field(_some_message(model, dice), dice)
    return model.SerializeToString()


def _some_message(message: Any, dice: random.Random) -> Any:
    while dice.random() < 0.85:
        inner: list[Any] = []
        for field, content in message.ListFields():
            if field.message_type:
                inner += list(content) if field.is_repeated else [content]
        if not inner:
            break
        message = dice.choice(inner)
    return message


def _mutate_field(message: Any, dice: random.Random) -> None:
    field = dice.choice(list(message.DESCRIPTOR.fields))
    if dice.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type:
        _mutate_message(message, field, dice)
    else:
        _mutate_scalar(message, field, dice)


def _mutate_message(message: Any, field: Any, dice: random.Random) -> None:
    content = getattr(message, field.name)
    if not field.is_repeated:
        content.SetInParent()
    elif len(content) and dice.random() < 0.7:
        copy = type(content[0])()
        copy.CopyFrom(dice.choice(list(content)))
        content.append(copy)
    else:
        content.add()


def _mutate_scalar(message: Any, field: Any, dice: random.Random) -> None:
    values: dict[int, Callable[[], Any]] = {
        field.CPPTYPE_STRING: lambda: dice.choice(_TEXTS),
        field.CPPTYPE_FLOAT: lambda: dice.choice([0.0, float("nan"), 1e38]),
        field.CPPTYPE_DOUBLE: lambda: dice.choice([0.0, float("inf"), 1e308]),
        field.CPPTYPE_ENUM: lambda: dice.choice([0, 1, 2, 4, 5, 6, 7, 10, 13]),
    }
    value = values.get(field.cpp_type, lambda: dice.choice(_NUMBERS))()
    if field.type == field.TYPE_BYTES:
        value = dice.randbytes(dice.choice([0, 1, 4, 16]))
    try:
        if field.is_repeated:
            getattr(message, field.name).extend([value] * dice.choice([1, 1, 3]))
        else:
            setattr(message, field.name, value)
    except ValueError:
        pass  # The number does not fit the field: this mutant stays as it is.


def judge(encoded: bytes, folder: Path) -> str:
    """Load a mutant: ``ok`` or the code of its refusal. Anything else is a fault of the reader."""
    try:
        inline_functions(load_model(encoded, folder=folder))
    except CompileError as error:
        text = str(error)
        assert all(line.isprintable() for line in text.split("\n")), "the message is unsafe"
        return error.code
    return "ok"


def run(
    seed: int, seconds: float, folder: Path, keep: Path, most: int | None = None
) -> Counter[str]:
    """Judge mutants until the time is over, or ``most`` are; return how often each outcome came."""
    dice = random.Random(seed)
    (folder / "weights.bin").write_bytes(bytes(32))
    bases = [each.SerializeToString() for each in (_rich_model(), _external_model())]
    assert all(judge(each, folder) == "ok" for each in bases), "mutants start from valid models"
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end and outcomes.total() != most:
        mutant = dice.choice([mutate_bytes, mutate_fields])(dice.choice(bases), dice)
        keep.write_bytes(mutant)
        start = time.monotonic()
        outcomes[judge(mutant, folder)] += 1
        taken = time.monotonic() - start
        assert taken < SLOWEST_SECONDS, f"a mutant took {taken:.1f} s"
    return outcomes


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--keep", type=Path, default=Path("fuzz-mutant.onnx"))
    options.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    given = options.parse_args()
    print(f"seed {given.seed}", file=sys.stderr)
    outcomes = run(given.seed, given.seconds, given.folder, given.keep)
    given.keep.unlink()
    print(outcomes.total(), "mutants:", dict(outcomes.most_common()))


if __name__ == "__main__":
    main()
