"""Well-formed graphs whose operators ask for what cannot be: the importer's to refuse.

An index or axis out of range and a size that overflows are known when the model is compiled, so
they are refused then; what depends on a run-time value may compile, and is checked when it runs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper

from .base import AT_IMPORT, EITHER, F32, I64, constant, hostile, model, save, value

_node = helper.make_node
_IMAGE = (1, 2, 4, 4)
_HUGE = 2**62


def _one(
    folder: Path,
    node: NodeProto,
    shape: Sequence[int | str | None] = (2, 3),
    constants: Sequence[TensorProto] = (),
    output: int = F32,
    opset: int = 20,
) -> Path:
    """Save a model of one node that reads ``x`` of ``shape`` and writes ``y`` of open shape."""
    outputs = [value(name, None, output) for name in node.output]
    return save(folder, model([node], [value("x", shape)], outputs, constants, opset))


def _ints(name: str, *items: int) -> TensorProto:
    return constant(name, items, np.int64)


@hostile(AT_IMPORT, says=["Frobnicate", "Quux", "Blorp", "'first'", "'second'", "'third'"])
def three_unknown_operators_all_listed(folder: Path) -> Path:
    nodes = [
        _node("Frobnicate", ["x"], ["a"], name="first"),
        _node("Quux", ["a"], ["b"], name="second", domain="com.example"),
        _node("Blorp", ["b"], ["y"], name="third", domain="com.other"),
    ]
    proto = model(nodes)
    for domain in ("com.example", "com.other"):
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    return save(folder, proto)


@hostile(EITHER, says=["batch", "length"])
def dynamic_dimensions_without_a_range(folder: Path) -> Path:
    shape = ("batch", "length")
    return save(folder, model(inputs=[value("x", shape)], outputs=[value("y", shape)]))


@hostile(EITHER)
def input_of_unknown_rank(folder: Path) -> Path:
    return save(folder, model(inputs=[value("x", None)], outputs=[value("y", None)]))


@hostile(AT_IMPORT)
def softmax_axis_out_of_range(folder: Path) -> Path:
    return _one(folder, _node("Softmax", ["x"], ["y"], axis=-7))


@hostile(AT_IMPORT)
def concat_axis_out_of_range(folder: Path) -> Path:
    return _one(folder, _node("Concat", ["x", "x"], ["y"], axis=2**62))


@hostile(AT_IMPORT)
def transpose_that_is_no_permutation(folder: Path) -> Path:
    return _one(folder, _node("Transpose", ["x"], ["y"], perm=[0, 0]))


@hostile(EITHER)
def reduce_over_an_axis_twice(folder: Path) -> Path:
    node = _node("ReduceSum", ["x", "axes"], ["y"])
    return _one(folder, node, constants=[_ints("axes", 0, -2)])


@hostile(AT_IMPORT)
def conv_with_zero_strides(folder: Path) -> Path:
    node = _node("Conv", ["x", "w"], ["y"], strides=[0, 0])
    return _one(folder, node, _IMAGE, [constant("w", np.ones((2, 2, 1, 1)))])


@hostile(AT_IMPORT)
def conv_with_zero_groups(folder: Path) -> Path:
    node = _node("Conv", ["x", "w"], ["y"], group=0)
    return _one(folder, node, _IMAGE, [constant("w", np.ones((2, 2, 1, 1)))])


@hostile(AT_IMPORT)
def conv_whose_weight_has_a_wrong_rank(folder: Path) -> Path:
    node = _node("Conv", ["x", "w"], ["y"])
    return _one(folder, node, _IMAGE, [constant("w", np.ones((2, 2)))])


@hostile(AT_IMPORT)
def conv_with_overflowing_pads(folder: Path) -> Path:
    node = _node("Conv", ["x", "w"], ["y"], pads=[_HUGE] * 4)
    return _one(folder, node, _IMAGE, [constant("w", np.ones((2, 2, 1, 1)))])


@hostile(AT_IMPORT)
def conv_with_negative_dilations(folder: Path) -> Path:
    node = _node("Conv", ["x", "w"], ["y"], dilations=[-1, -1])
    return _one(folder, node, _IMAGE, [constant("w", np.ones((2, 2, 3, 3)))])


@hostile(AT_IMPORT)
def pool_with_a_zero_kernel(folder: Path) -> Path:
    return _one(folder, _node("AveragePool", ["x"], ["y"], kernel_shape=[0, 0]), _IMAGE)


@hostile(AT_IMPORT)
def depth_to_space_with_a_zero_block(folder: Path) -> Path:
    return _one(folder, _node("DepthToSpace", ["x"], ["y"], blocksize=0), _IMAGE)


@hostile(AT_IMPORT)
def matmul_of_shapes_that_disagree(folder: Path) -> Path:
    return _one(folder, _node("MatMul", ["x", "w"], ["y"]), constants=[constant("w", [[1.0] * 5])])


@hostile(AT_IMPORT)
def add_of_shapes_that_do_not_broadcast(folder: Path) -> Path:
    return _one(folder, _node("Add", ["x", "w"], ["y"]), constants=[constant("w", [1.0] * 5)])


@hostile(AT_IMPORT)
def add_of_two_element_types(folder: Path) -> Path:
    return _one(folder, _node("Add", ["x", "w"], ["y"]), constants=[_ints("w", 1, 2, 3)])


@hostile(AT_IMPORT)
def output_declared_of_a_wrong_type(folder: Path) -> Path:
    return _one(folder, _node("Relu", ["x"], ["y"]), output=I64)


@hostile(AT_IMPORT)
def relu_without_inputs(folder: Path) -> Path:
    return _one(folder, _node("Relu", [], ["y"]))


@hostile(AT_IMPORT)
def relu_with_five_inputs(folder: Path) -> Path:
    return _one(folder, _node("Relu", ["x"] * 5, ["y"]))


@hostile(AT_IMPORT)
def attribute_of_a_wrong_type_for_its_operator(folder: Path) -> Path:
    return _one(folder, _node("Softmax", ["x"], ["y"], axis="one"))


@hostile(AT_IMPORT)
def reshape_with_two_open_dimensions(folder: Path) -> Path:
    return _one(folder, _node("Reshape", ["x", "s"], ["y"]), constants=[_ints("s", -1, -1)])


@hostile(AT_IMPORT)
def reshape_to_another_number_of_elements(folder: Path) -> Path:
    return _one(folder, _node("Reshape", ["x", "s"], ["y"]), constants=[_ints("s", 7)])


@hostile(AT_IMPORT)
def reshape_whose_product_overflows(folder: Path) -> Path:
    sizes = _ints("s", 2**32, 2**32, 6)
    return _one(folder, _node("Reshape", ["x", "s"], ["y"]), constants=[sizes])


@hostile(AT_IMPORT)
def gather_with_constant_indices_out_of_range(folder: Path) -> Path:
    return _one(folder, _node("Gather", ["x", "i"], ["y"]), constants=[_ints("i", 0, 1000)])


@hostile(AT_IMPORT)
def scatter_with_constant_indices_out_of_range(folder: Path) -> Path:
    constants = [_ints("i", 1000), constant("u", [[1.0, 2.0, 3.0]])]
    indices = constants[0]
    indices.dims[:] = [1, 1]
    return _one(folder, _node("ScatterND", ["x", "i", "u"], ["y"]), constants=constants)


@hostile(AT_IMPORT)
def split_into_zero_parts(folder: Path) -> Path:
    return _one(folder, _node("Split", ["x"], ["y"], num_outputs=0))


@hostile(AT_IMPORT)
def split_whose_parts_do_not_add_up(folder: Path) -> Path:
    node = _node("Split", ["x", "s"], ["y", "z"], axis=1)
    return _one(folder, node, constants=[_ints("s", 2, 2)])


@hostile(AT_IMPORT)
def slice_with_a_zero_step(folder: Path) -> Path:
    constants = [_ints("b", 0), _ints("e", 2), _ints("a", 0), _ints("t", 0)]
    return _one(folder, _node("Slice", ["x", "b", "e", "a", "t"], ["y"]), constants=constants)


@hostile(AT_IMPORT)
def constant_of_shape_of_exbi_elements(folder: Path) -> Path:
    node = _node("ConstantOfShape", ["s"], ["y"])
    return _one(folder, node, constants=[_ints("s", 2**30, 2**30)])


@hostile(AT_IMPORT)
def range_of_exbi_elements(folder: Path) -> Path:
    constants = [constant(n, i, np.int64) for n, i in (("a", 0), ("b", 2**62), ("c", 1))]
    return _one(folder, _node("Range", ["a", "b", "c"], ["y"]), constants=constants, output=I64)


@hostile(AT_IMPORT)
def range_with_a_zero_step(folder: Path) -> Path:
    constants = [constant(n, i, np.int64) for n, i in (("a", 0), ("b", 9), ("c", 0))]
    return _one(folder, _node("Range", ["a", "b", "c"], ["y"]), constants=constants, output=I64)


@hostile(AT_IMPORT)
def expand_that_overflows(folder: Path) -> Path:
    sizes = _ints("s", 2**32, 2**32, 2, 3)
    return _one(folder, _node("Expand", ["x", "s"], ["y"]), constants=[sizes])


@hostile(AT_IMPORT)
def tile_that_overflows(folder: Path) -> Path:
    return _one(folder, _node("Tile", ["x", "r"], ["y"]), constants=[_ints("r", _HUGE, _HUGE)])


@hostile(AT_IMPORT)
def tile_a_negative_number_of_times(folder: Path) -> Path:
    return _one(folder, _node("Tile", ["x", "r"], ["y"]), constants=[_ints("r", -1, 1)])


@hostile(AT_IMPORT)
def pad_that_overflows(folder: Path) -> Path:
    pads = _ints("p", _HUGE, _HUGE, _HUGE, _HUGE)
    return _one(folder, _node("Pad", ["x", "p"], ["y"]), constants=[pads])


@hostile(AT_IMPORT)
def pad_below_nothing(folder: Path) -> Path:
    return _one(folder, _node("Pad", ["x", "p"], ["y"]), constants=[_ints("p", -9, -9, 0, 0)])


@hostile(AT_IMPORT)
def resize_that_overflows(folder: Path) -> Path:
    node = _node("Resize", ["x", "", "s"], ["y"])
    return _one(folder, node, _IMAGE, [constant("s", [1.0, 1.0, 1e30, 1e30])])


@hostile(AT_IMPORT)
def resize_by_not_a_number(folder: Path) -> Path:
    node = _node("Resize", ["x", "", "s"], ["y"])
    return _one(folder, node, _IMAGE, [constant("s", [1.0, 1.0, float("nan"), -1.0])])


@hostile(AT_IMPORT)
def one_hot_of_exbi_classes(folder: Path) -> Path:
    constants = [constant("d", 2**60, np.int64), constant("v", [0.0, 1.0])]
    return _one(folder, _node("OneHot", ["x", "d", "v"], ["y"]), constants=constants)


@hostile(AT_IMPORT)
def input_larger_than_any_memory(folder: Path) -> Path:
    return _one(folder, _node("Relu", ["x"], ["y"]), (2**31, 2**31, 2**31))


@hostile(AT_IMPORT)
def einsum_with_a_broken_equation(folder: Path) -> Path:
    return _one(folder, _node("Einsum", ["x"], ["y"], equation="i->ij->*/"))


@hostile(AT_IMPORT)
def constant_without_a_value(folder: Path) -> Path:
    return _one(folder, _node("Constant", [], ["y"]))


@hostile(AT_IMPORT)
def cast_to_an_unknown_type(folder: Path) -> Path:
    return _one(folder, _node("Cast", ["x"], ["y"], to=99))


def _body(nodes: list[NodeProto], outputs: list[onnx.ValueInfoProto]) -> GraphProto:
    inputs = [value("i", (), I64), value("c", (), TensorProto.BOOL), value("v", (2, 3))]
    return GraphProto(name="body", node=nodes, input=inputs, output=outputs)


@hostile(EITHER)
def loop_of_two_to_the_63_trips(folder: Path) -> Path:
    """It may compile; it must not be unrolled, nor run while compiling."""
    body = _body([_node("Relu", ["v"], ["w"])], [value("c", (), 9), value("w", (2, 3))])
    node = _node("Loop", ["n", "", "x"], ["y"], body=body)
    return _one(folder, node, constants=[constant("n", 2**63 - 1, np.int64)])


@hostile(AT_IMPORT)
def loop_of_constants_alone_that_collects_without_end(folder: Path) -> Path:
    """Nothing but constants go in, so that folding it would fill the memory."""
    nodes = [_node("Relu", ["v"], ["w"]), _node("Identity", ["v"], ["s"])]
    outputs = [value("c", (), 9), value("w", (2, 3)), value("s", (2, 3))]
    node = _node("Loop", ["n", "", "k"], ["y", "z"], body=_body(nodes, outputs))
    constants = [constant("n", 2**40, np.int64), constant("k", np.ones((2, 3)))]
    return _one(folder, node, constants=constants)


@hostile(AT_IMPORT)
def loop_whose_body_takes_too_few_inputs(folder: Path) -> Path:
    body = GraphProto(name="body", node=[_node("Relu", ["x"], ["w"])], output=[value("w")])
    node = _node("Loop", ["n", "", "x"], ["y"], body=body)
    return _one(folder, node, constants=[constant("n", 3, np.int64)])


@hostile(AT_IMPORT)
def if_without_an_else_branch(folder: Path) -> Path:
    branch = GraphProto(name="b", node=[_node("Relu", ["x"], ["z"])], output=[value("z")])
    node = _node("If", ["t"], ["y"], then_branch=branch)
    return _one(folder, node, constants=[constant("t", True, bool)])


@hostile(EITHER)
def string_tensor_as_input(folder: Path) -> Path:
    strings = TensorProto.STRING
    node = _node("Identity", ["x"], ["y"])
    return save(folder, model([node], [value("x", (2,), strings)], [value("y", (2,), strings)]))


@hostile(EITHER)
def division_of_constants_by_zero(folder: Path) -> Path:
    """The smallest integer by -1, and any by 0, end a C program."""
    nodes = [_node("Div", ["a", "b"], ["q"]), _node("Mod", ["a", "b"], ["y"])]
    constants = [_ints("a", -(2**63), 1), _ints("b", -1, 0)]
    outputs = [value("q", (2,), I64), value("y", (2,), I64)]
    return save(folder, model(nodes, [value("x")], outputs, constants))


@hostile(EITHER)
def shift_by_more_bits_than_there_are(folder: Path) -> Path:
    node = _node("BitShift", ["a", "b"], ["y"], direction="LEFT")
    constants = [constant("a", [1, 1], np.uint32), constant("b", [32, 2**31], np.uint32)]
    return _one(folder, node, constants=constants, output=TensorProto.UINT32)


@hostile(EITHER)
def cast_of_numbers_that_no_integer_holds(folder: Path) -> Path:
    node = _node("Cast", ["k"], ["y"], to=TensorProto.INT32)
    odd = constant("k", [np.nan, np.inf, -1e30])
    return _one(folder, node, constants=[odd], output=TensorProto.INT32)


@hostile(EITHER)
def tensors_without_elements(folder: Path) -> Path:
    nodes = [_node("Softmax", ["x"], ["a"]), _node("ReduceMax", ["a"], ["y"], keepdims=0)]
    return save(folder, model(nodes, [value("x", (0, 3))], [value("y", None)]))


@hostile(EITHER)
def chain_of_five_thousand_nodes(folder: Path) -> Path:
    """Deep, and within every cap: whatever recurses along the graph fails here."""
    count = 5000
    nodes = [_node("Abs", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    return save(folder, model(nodes, [value("v0")], [value(f"v{count}")]))
