"""Stripping keeps a model's meaning, and leaves out only what nothing reads."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tapeout.frontend.onnx.limits import DEFAULT_LIMITS
from tapeout.frontend.onnx.wire import span_of_token, strip


def _model() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    attribute = numpy_helper.from_array(np.arange(3), "c")
    node = helper.make_node("Constant", [], ["x"], value=attribute, doc_string="words")
    weight = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    graph = helper.make_graph([node], "g", [], [value], [weight], value_info=[value])
    return helper.make_model(graph)


def test_raw_data_becomes_a_token_of_its_span() -> None:
    encoded = _model().SerializeToString()
    stripped = strip(memoryview(encoded), DEFAULT_LIMITS)
    graph = onnx.ModelProto.FromString(stripped.encoded).graph
    tensors = [graph.initializer[0], graph.node[0].attribute[0].t]
    contents: list[bytes] = []
    for tensor in tensors:
        offset, length = stripped.spans[span_of_token(tensor.raw_data)]
        contents.append(encoded[offset : offset + length])
    assert contents == [np.arange(1000, dtype=np.float32).tobytes(), np.arange(3).tobytes()]
    assert len(stripped.encoded) < 200


def test_all_else_is_kept_but_what_nothing_reads() -> None:
    model = _model()
    stripped = strip(memoryview(model.SerializeToString()), DEFAULT_LIMITS)
    parsed = onnx.ModelProto.FromString(stripped.encoded)
    for each in (model, parsed):
        del each.graph.initializer[:]
        each.graph.node[0].attribute[0].t.ClearField("raw_data")
    assert parsed != model
    model.graph.node[0].ClearField("doc_string")
    del model.graph.value_info[:]
    assert parsed == model


def test_unknown_fields_are_left_out() -> None:
    model = _model()
    longer = model.SerializeToString() + b"\xfa\x3f\x03abc"
    short = strip(memoryview(model.SerializeToString()), DEFAULT_LIMITS)
    assert strip(memoryview(longer), DEFAULT_LIMITS).encoded == short.encoded


def test_a_tensor_given_in_two_pieces_takes_the_last_data() -> None:
    """Protobuf merges a message that occurs twice; so must whoever walks before it."""
    first = TensorProto(name="w", raw_data=b"first").SerializeToString()
    second = TensorProto(raw_data=b"second").SerializeToString()
    attribute = b"".join(b"\x2a" + bytes([len(part)]) + part for part in (first, second))
    node = b"\x2a" + bytes([len(attribute)]) + attribute
    graph = b"\x0a" + bytes([len(node)]) + node
    encoded = b"\x3a" + bytes([len(graph)]) + graph
    merged = onnx.ModelProto.FromString(encoded).graph.node[0].attribute[0].t
    assert merged.raw_data == b"second"
    stripped = strip(memoryview(encoded), DEFAULT_LIMITS)
    tensor = onnx.ModelProto.FromString(stripped.encoded).graph.node[0].attribute[0].t
    offset, length = stripped.spans[span_of_token(tensor.raw_data)]
    assert encoded[offset : offset + length] == b"second"
