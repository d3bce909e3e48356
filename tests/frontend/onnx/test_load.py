"""Valid models are read as they were written: values, types, scopes, constants and their places."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from tapeout.frontend.onnx.limits import Limits
from tapeout.frontend.onnx.load import load_model
from tapeout.frontend.onnx.view import Graph, SequenceType, Tensor, TensorType
from tapeout.ir.errors import CompileError, CompileErrors


def _value(name: str, shape: tuple[int | str | None, ...] | None = (2, "N", None)):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(constants: list[TensorProto], **kinds: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        "g",
        [_value("x")],
        [_value("y", None)],
        constants,
    )
    imports = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **kinds)


def _same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Compare bit by bit: NaN equals itself, and the types must be the same."""
    if wanted.dtype == object:
        return found.dtype == object and found.tolist() == wanted.tolist()
    same_kind = found.dtype == wanted.dtype and found.shape == wanted.shape
    return same_kind and found.tobytes() == wanted.tobytes()


_NUMERIC = [
    kind for name, kind in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")
]


@pytest.mark.parametrize("kind", _NUMERIC, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("count", [0, 1, 3, 8], ids=str)
def test_every_element_type_reads_alike_from_raw_and_typed_data(kind: int, count: int) -> None:
    """ONNX's own decoder is the judge; odd counts leave padding in packed types."""
    values = [(0, 1, 1, 0, 1, 0, 0, 1)[i] for i in range(count)]
    typed = helper.make_tensor("t", kind, [count], values)
    wanted = numpy_helper.to_array(typed)
    raw = numpy_helper.from_array(wanted, "r")
    found = load_model(_model([typed, raw])).graph.initializers
    assert _same(found["t"].array, wanted)
    assert _same(found["r"].array, wanted)
    assert not found["r"].array.flags.writeable


@pytest.mark.parametrize(
    "dtype", ["int2", "uint2", "int4", "uint4", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]
)
def test_packed_types_keep_every_code(dtype: str) -> None:
    element = np.dtype(getattr(ml_dtypes, dtype))
    # Casting walks all codes: integers wrap, floats round to a representable neighbour.
    array = np.linspace(-8, 15, 63).astype(np.float32).astype(element).reshape(7, 9)
    wanted = numpy_helper.to_array(numpy_helper.from_array(array, "w"))
    found = load_model(_model([numpy_helper.from_array(array, "w")])).graph.initializers["w"].array
    assert np.array_equal(found.astype(np.float32), wanted.astype(np.float32))


@pytest.mark.parametrize("kind", _NUMERIC, ids=TensorProto.DataType.Name)
def test_scalars_of_every_type_stay_arrays_that_cannot_be_written(kind: int) -> None:
    """numpy turns results without dimensions into scalars, which are not arrays."""
    typed = helper.make_tensor("t", kind, [], [1])
    raw = numpy_helper.from_array(numpy_helper.to_array(typed), "r")
    for tensor in load_model(_model([typed, raw])).graph.initializers.values():
        assert type(tensor.array) is np.ndarray
        assert tensor.array.shape == ()
        assert not tensor.array.flags.writeable


def test_bits_of_small_floats_survive_negative_storage() -> None:
    """Writers differ in whether a 16-bit pattern with the top bit set is stored as negative."""
    both = TensorProto(
        name="w", data_type=TensorProto.BFLOAT16, dims=[2], int32_data=[0xC000, 0xC000 - 0x10000]
    )
    array = load_model(_model([both])).graph.initializers["w"].array
    assert array.astype(np.float32).tolist() == [-2.0, -2.0]


def test_strings_and_scalars_are_read() -> None:
    texts = ["ä".encode(), b""]
    strings = TensorProto(name="s", data_type=TensorProto.STRING, dims=[2], string_data=texts)
    scalar = numpy_helper.from_array(np.array(3.0), "c")
    found = load_model(_model([strings, scalar])).graph.initializers
    assert found["s"].array.tolist() == ["ä", ""]
    assert found["c"].array.shape == ()


def test_sparse_initializers_become_dense() -> None:
    proto = _model([])
    for name, indices in (("flat", [1, 5]), ("pairs", [[0, 1], [1, 2]])):
        values = numpy_helper.from_array(np.array([7, 8], np.float32), name)
        places = numpy_helper.from_array(np.array(indices), "i")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 3]))
    found = load_model(proto).graph.initializers
    assert found["flat"].array.tolist() == [[0, 7, 0], [0, 0, 8]]
    assert found["pairs"].array.tolist() == [[0, 7, 0], [0, 0, 8]]


def test_raw_weights_of_a_file_are_views_of_it(tmp_path: Path) -> None:
    weight = np.arange(4096, dtype=np.float32)
    path = tmp_path / "m.onnx"
    path.write_bytes(_model([numpy_helper.from_array(weight, "w")]).SerializeToString())
    tensor = load_model(path).graph.initializers["w"]
    assert np.array_equal(tensor.array, weight)
    assert not tensor.array.flags.owndata
    assert tensor.origin is not None
    assert tensor.origin.path == path
    content = path.read_bytes()[tensor.origin.offset :][: tensor.origin.length]
    assert content == weight.tobytes()


def test_external_data_is_mapped_with_its_place(tmp_path: Path) -> None:
    weight = np.arange(4096, dtype=np.float32).reshape(64, 64)
    location = "sub/weights.bin"
    tensors: list[TensorProto] = []
    for name, offset in (("a", 0), ("b", weight.nbytes)):
        tensor = TensorProto(name=name, data_type=1, dims=[64, 64], data_location="EXTERNAL")
        for key, text in (("location", location), ("offset", str(offset))):
            tensor.external_data.add(key=key, value=text)
        tensors.append(tensor)
    (tmp_path / "sub").mkdir()
    (tmp_path / location).write_bytes(weight.tobytes() * 2)
    (tmp_path / "m.onnx").write_bytes(_model(tensors).SerializeToString())
    found = load_model(tmp_path / "m.onnx").graph.initializers
    for tensor in found.values():
        assert np.array_equal(tensor.array, weight)
        assert not tensor.array.flags.owndata
        assert tensor.origin is not None
        assert tensor.origin.path == tmp_path / location
    assert {t.origin.offset for t in found.values() if t.origin} == {0, weight.nbytes}


def test_a_link_to_the_model_itself_is_followed(tmp_path: Path) -> None:
    """The path is the user's own word; only what the file says is distrusted."""
    (tmp_path / "real.onnx").write_bytes(_model([]).SerializeToString())
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    assert load_model(tmp_path / "link.onnx").graph.name == "g"


def test_values_keep_names_types_and_dims() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.INT64, [None])
    proto = _model([])
    proto.graph.input.append(sequence)
    x, s = load_model(proto).graph.inputs
    assert x.type == TensorType(np.dtype(np.float32), (2, "N", None))
    assert s.type == SequenceType(TensorType(np.dtype(np.int64), (None,)))


def test_attributes_become_plain_values() -> None:
    node = helper.make_node(
        "Anything",
        ["x"],
        ["y"],
        domain="com.example",
        i=3,
        f=0.5,
        s="text",
        ints=[1, 2],
        floats=[0.5],
        strings=["a"],
        t=numpy_helper.from_array(np.eye(2)),
    )
    proto = _model([])
    proto.graph.node[0].CopyFrom(node)
    proto.opset_import.append(helper.make_opsetid("com.example", 4))
    [read] = load_model(proto).graph.nodes
    assert (read.domain, read.version) == ("com.example", 4)
    tensor = read.attrs["t"]
    assert isinstance(tensor, Tensor)
    assert np.array_equal(tensor.array, np.eye(2))
    plain = {name: value for name, value in read.attrs.items() if name != "t"}
    wanted = {"i": 3, "f": 0.5, "s": "text", "ints": (1, 2), "floats": (0.5,), "strings": ("a",)}
    assert plain == wanted


def test_scalar_attribute_left_out_by_its_writer_is_zero() -> None:
    """Writers after proto3 leave zeros out; the type field still says what is meant."""
    proto = _model([])
    proto.graph.node[0].attribute.append(onnx.AttributeProto(name="axis", type="INT"))
    assert load_model(proto).graph.nodes[0].attrs["axis"] == 0


def test_subgraph_names_what_it_captures() -> None:
    """``b`` is read two graphs deep; ``x`` is the outer one at first, then shadowed."""
    deep = GraphProto(name="deep", node=[helper.make_node("Add", ["b", "k"], ["z"])])
    deep.output.append(_value("z"))
    inner = GraphProto(
        name="inner",
        node=[
            helper.make_node("Relu", ["a"], ["k"]),
            helper.make_node("If", ["k"], ["q"], then_branch=deep, else_branch=deep),
        ],
        output=[_value("q")],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["x"], ["b"]),
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
    ]
    proto = _model([])
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    graph = load_model(proto).graph
    branch = graph.nodes[2].attrs["then_branch"]
    assert isinstance(branch, Graph)
    assert branch.captures == ("a", "b")
    assert graph.captures == ()


def test_names_of_an_outer_graph_may_be_defined_anew_inside() -> None:
    """ONNX's checker allows it, and exporters write it."""
    inner = GraphProto(
        name="inner", node=[helper.make_node("Relu", ["x"], ["y"])], output=[_value("y")]
    )
    proto = _model([])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    proto.graph.node[0].CopyFrom(node)
    assert load_model(proto).graph.nodes[0].outputs == ("y",)


def test_an_initializer_may_be_an_inputs_default() -> None:
    proto = _model([numpy_helper.from_array(np.zeros((2, 1, 1), np.float32), "x")])
    graph = load_model(proto).graph
    assert graph.inputs[0].name == "x"
    assert "x" in graph.initializers


def test_the_callers_model_is_left_as_it_is() -> None:
    proto = _model([numpy_helper.from_array(np.ones(3), "w")])
    before = proto.SerializeToString()
    load_model(proto)
    assert proto.SerializeToString() == before


def test_faults_of_several_kinds_are_told_at_once() -> None:
    proto = _model([TensorProto(name="w", data_type=1, dims=[3])])
    proto.ir_version = 99
    proto.graph.node[0].input[0] = "ghost"
    with pytest.raises(CompileErrors) as refusal:
        load_model(proto)
    assert [error.code for error in refusal.value.errors] == ["E0307", "E0303", "E0305"]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(file_bytes=10),
        Limits(nodes=0),
        Limits(messages=3),
        Limits(fields=5),
        Limits(nesting=0),
    ],
    ids=["file_bytes", "nodes", "messages", "fields", "nesting"],
)
def test_every_cap_holds(limits: Limits) -> None:
    load_model(_model([]))
    with pytest.raises(CompileError) as refusal:
        load_model(_model([]), limits=limits)
    assert refusal.value.code == "E0304"


def test_light_models_of_the_wheel_are_read() -> None:
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    paths = sorted(folder.glob("*.onnx"))
    assert len(paths) == 9
    for path in paths:
        assert load_model(path).graph.nodes
