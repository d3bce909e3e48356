"""Files that are no whole model, or that cost far more to read than to write."""

from pathlib import Path

from onnx import helper

from .base import AT_LOAD, hostile, message, model, save, value, varint

_GRAPH, _NODE, _ATTRIBUTE, _SUBGRAPH = 7, 1, 5, 6
_OPSET = message(8, b"\x10\x14")


@hostile(AT_LOAD, "E0301", says=["empty"])
def empty_file(folder: Path) -> Path:
    return save(folder, b"")


@hostile(AT_LOAD, "E0301", says=["not a regular file"])
def directory_in_place_of_a_file(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.mkdir()
    return path


@hostile(AT_LOAD, "E0301", says=["No such file"])
def missing_file(folder: Path) -> Path:
    return folder / "model.onnx"


@hostile(AT_LOAD, "E0302", says=["offset"])
def truncated(folder: Path) -> Path:
    return save(folder, model().SerializeToString()[:-7])


@hostile(AT_LOAD, "E0302")
def text_in_place_of_protobuf(folder: Path) -> Path:
    return save(folder, b"<html>404 not found</html>" * 20)


@hostile(AT_LOAD, "E0302", says=["no graph"])
def model_without_a_graph(folder: Path) -> Path:
    return save(folder, _OPSET + b"\x08\x0a")


@hostile(AT_LOAD, "E0302", says=["wire type"])
def field_with_a_wrong_wire_type(folder: Path) -> Path:
    return save(folder, model().SerializeToString() + varint(_GRAPH << 3) + b"\x01")


@hostile(AT_LOAD, "E0302", says=["wire type 3"])
def endless_protobuf_group(folder: Path) -> Path:
    return save(folder, b"\x0b" * 100_000)


@hostile(AT_LOAD, "E0302", says=["ten bytes"])
def number_without_end(folder: Path) -> Path:
    return save(folder, b"\x08" + b"\xff" * 5000)


@hostile(AT_LOAD, "E0302", says=["bytes stands where"])
def length_past_the_end(folder: Path) -> Path:
    return save(folder, varint(_GRAPH << 3 | 2) + varint(2**63) + b"x")


@hostile(AT_LOAD, "E0302", says=["not UTF-8"])
def name_that_is_not_utf8(folder: Path) -> Path:
    content = model([helper.make_node("Relu", ["x"], ["y"], name="NAME")]).SerializeToString()
    return save(folder, content.replace(b"NAME", b"\xff\xfe\xc0\x80"))


@hostile(AT_LOAD, "E0304", says=["'name'"])
def name_of_a_megabyte(folder: Path) -> Path:
    return save(folder, model([helper.make_node("Relu", ["x"], ["y"], name="n" * 2**20)]))


@hostile(AT_LOAD, "E0304", says=["nodes"])
def million_empty_nodes(folder: Path) -> Path:
    """Two bytes each in the file, some hundred once parsed."""
    return save(folder, _OPSET + message(_GRAPH, message(_NODE, b"") * 1_000_000))


@hostile(AT_LOAD, "E0304", says=["protobuf messages"])
def millions_of_empty_dimensions(folder: Path) -> Path:
    shape = message(2, message(1, b"") * 3_000_000)
    info = message(1, b"x") + message(2, message(1, b"\x08\x01" + shape))
    return save(folder, _OPSET + message(_GRAPH, message(11, info)))


@hostile(AT_LOAD, "E0304", says=["protobuf fields"])
def millions_of_empty_input_names(folder: Path) -> Path:
    return save(folder, _OPSET + message(_GRAPH, message(_NODE, message(1, b"") * 2_100_000)))


def _nested_if(depth: int) -> bytes:
    graph = message(2, b"leaf")
    for _ in range(depth):
        branches = [
            message(_ATTRIBUTE, message(1, name) + message(_SUBGRAPH, body) + b"\xa0\x01\x05")
            for name, body in ((b"then_branch", graph), (b"else_branch", message(2, b"leaf")))
        ]
        node = message(1, b"c") + message(4, b"If") + b"".join(branches)
        graph = message(_NODE, node) + message(2, b"g")
    return b"\x08\x0a" + _OPSET + message(_GRAPH, graph)


@hostile(AT_LOAD, "E0304", says=["inside each other"])
def if_nested_thirty_deep(folder: Path) -> Path:
    """Under protobuf's own limit; ONNX's shape inference doubles its work at every level."""
    return save(folder, _nested_if(30))


@hostile(AT_LOAD, "E0304", says=["inside each other"])
def if_nested_two_thousand_deep(folder: Path) -> Path:
    return save(folder, _nested_if(2000))


@hostile(AT_LOAD, "E0304", says=["inside each other"])
def type_nested_a_thousand_deep(folder: Path) -> Path:
    kind = message(1, b"\x08\x01")
    for _ in range(1000):
        kind = message(4, message(1, kind))
    info = message(1, b"x") + message(2, kind)
    return save(folder, _OPSET + message(_GRAPH, message(11, info)))


@hostile(AT_LOAD, "E0303", says=["-1"])
def negative_ir_version(folder: Path) -> Path:
    proto = model()
    proto.ir_version = -1
    return save(folder, proto)


@hostile(AT_LOAD, "E0303", says=["9223372036854775807"])
def ir_version_from_the_future(folder: Path) -> Path:
    proto = model()
    proto.ir_version = 2**63 - 1
    return save(folder, proto)


@hostile(AT_LOAD, "E0303", says=["version: 0"])
def opset_zero(folder: Path) -> Path:
    return save(folder, model(opset=0))


@hostile(AT_LOAD, "E0303", says=["version: 999"])
def opset_from_the_future(folder: Path) -> Path:
    return save(folder, model(opset=999))


@hostile(AT_LOAD, "E0303", says=["two versions"])
def two_versions_of_one_domain(folder: Path) -> Path:
    proto = model()
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    return save(folder, proto)


@hostile(AT_LOAD, "E0303", says=["'com.nowhere'", "'ai.onnx'"])
def domain_that_is_not_imported(folder: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"], domain="com.nowhere")
    return save(folder, model([node], outputs=[value("y")]))
