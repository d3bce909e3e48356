"""Constants that lie about their size, their type or their contents."""

from pathlib import Path

import onnx
from onnx import SparseTensorProto, TensorProto, helper

from .base import AT_LOAD, F32, constant, hostile, model, save

INT4, INT8, BOOL, STRING = (
    TensorProto.INT4,
    TensorProto.INT8,
    TensorProto.BOOL,
    TensorProto.STRING,
)


def _with(folder: Path, *tensors: TensorProto) -> Path:
    return save(folder, model(constants=tensors))


@hostile(AT_LOAD, "E0307", says=["'w'", "overflows"])
def dims_whose_product_overflows(folder: Path) -> Path:
    """The product is 2 modulo 2**64: a wrapped size agrees with the eight bytes given."""
    dims = [2**32 + 1, 2**32 - 1, 2**62]
    return _with(folder, TensorProto(name="w", data_type=F32, dims=dims, raw_data=bytes(8)))


@hostile(AT_LOAD, "E0307", says=["'w'", "overflows"])
def zero_elements_with_overflowing_strides(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=F32, dims=[0, 2**62, 2**62]))


@hostile(AT_LOAD, "E0307", says=["'w'", "negative"])
def negative_dims(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=F32, dims=[-2, -1], raw_data=bytes(8)))


@hostile(AT_LOAD, "E0307", says=["rank 5000"])
def tensor_of_rank_five_thousand(folder: Path) -> Path:
    dims = [1] * 5000
    return _with(folder, TensorProto(name="w", data_type=F32, dims=dims, raw_data=bytes(4)))


@hostile(AT_LOAD, "E0307", says=["'w'", "4611686018427387904"])
def exabytes_declared_and_nothing_given(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=INT8, dims=[2**62]))


@hostile(AT_LOAD, "E0307", says=["'w'", "expected: 8"])
def raw_data_too_short(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=F32, dims=[2], raw_data=bytes(7)))


@hostile(AT_LOAD, "E0307", says=["'w'", "bytes:"])
def raw_data_too_long(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=INT4, dims=[3], raw_data=bytes(3)))


@hostile(AT_LOAD, "E0307", says=["raw_data, float_data"])
def data_in_two_places(folder: Path) -> Path:
    both = TensorProto(name="w", data_type=F32, dims=[1], raw_data=bytes(4), float_data=[1.0])
    return _with(folder, both)


@hostile(AT_LOAD, "E0307", says=["instead of float_data"])
def data_in_the_field_of_another_type(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=F32, dims=[1], int64_data=[1]))


@hostile(AT_LOAD, "E0307", says=["300"])
def element_too_large_for_its_type(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=INT8, dims=[1], int32_data=[300]))


@hostile(AT_LOAD, "E0307", says=["0 to 7"])
def bool_that_is_neither_true_nor_false(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=BOOL, dims=[2], raw_data=b"\x00\x07"))


@hostile(AT_LOAD, "E0307", says=["instead of string_data"])
def strings_as_raw_data(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=STRING, dims=[1], raw_data=bytes(8)))


@hostile(AT_LOAD, "E0307", says=["not UTF-8"])
def string_element_that_is_not_utf8(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", data_type=STRING, dims=[1], string_data=[b"\xff"]))


@hostile(AT_LOAD, "E0307", says=["segment"])
def segment_of_a_larger_tensor(folder: Path) -> Path:
    part = TensorProto.Segment(begin=0, end=1)
    return _with(folder, TensorProto(name="w", data_type=F32, dims=[0], segment=part))


@hostile(AT_LOAD, "E0306", says=["'w'", "element type"])
def tensor_without_an_element_type(folder: Path) -> Path:
    return _with(folder, TensorProto(name="w", dims=[1], raw_data=bytes(4)))


@hostile(AT_LOAD, "E0307", says=["'lie'", "does not fill"])
def constant_attribute_that_lies_about_its_length(folder: Path) -> Path:
    lie = TensorProto(name="lie", data_type=F32, dims=[2**40], raw_data=bytes(16))
    return save(folder, model([helper.make_node("Constant", [], ["y"], value=lie)]))


def _sparse(folder: Path, values: TensorProto, indices: TensorProto, dims: list[int]) -> Path:
    proto = model()
    sparse = SparseTensorProto(values=values, indices=indices, dims=dims)
    proto.graph.sparse_initializer.append(sparse)
    return save(folder, proto)


def _indices(*rows: object) -> TensorProto:
    return constant("i", rows, int)


@hostile(AT_LOAD, "E0311", says=["'s'", "outside"])
def sparse_index_outside_the_tensor(folder: Path) -> Path:
    return _sparse(folder, constant("s", [1.0]), _indices(2**40), [4])


@hostile(AT_LOAD, "E0311", says=["'s'", "outside"])
def sparse_index_that_is_negative(folder: Path) -> Path:
    return _sparse(folder, constant("s", [1.0]), _indices([0, -1]), [4, 4])


@hostile(AT_LOAD, "E0311", says=["ascending"])
def sparse_indices_given_twice(folder: Path) -> Path:
    return _sparse(folder, constant("s", [1.0, 2.0]), _indices(1, 1), [4])


@hostile(AT_LOAD, "E0311", says=["not int64"])
def sparse_with_fewer_indices_than_values(folder: Path) -> Path:
    return _sparse(folder, constant("s", [1.0, 2.0]), _indices(1), [4])


@hostile(AT_LOAD, "E0304", says=["4398046511104"])
def sparse_tensor_of_four_terabytes(folder: Path) -> Path:
    return _sparse(folder, constant("s", [1.0]), _indices(1), [2**40])


@hostile(AT_LOAD, "E0311", "E0306", says=["element type"])
def sparse_tensor_without_values(folder: Path) -> Path:
    proto = model()
    proto.graph.sparse_initializer.append(SparseTensorProto(dims=[4]))
    return save(folder, proto)


@hostile(AT_LOAD, "E0307", says=["64 bits"])
def type_of_complex_elements_that_overflow(folder: Path) -> Path:
    kind = onnx.TensorProto.COMPLEX128
    return _with(folder, TensorProto(name="w", data_type=kind, dims=[2**60], raw_data=bytes(16)))
