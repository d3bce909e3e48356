"""Constants of a model file, decoded: any element type, in any field, dense or sparse.

The declared shape is never believed before the data agrees with it: nothing is allocated by what
``dims`` say alone, save for sparse tensors, which have their own cap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import SparseTensorProto, TensorProto

from tapeout.frontend.onnx.element_types import STRING, ElementType, element_type
from tapeout.frontend.onnx.external_data import ExternalFiles
from tapeout.frontend.onnx.findings import quoted
from tapeout.frontend.onnx.limits import Limits
from tapeout.frontend.onnx.source import SourceBytes
from tapeout.frontend.onnx.view import Origin, Tensor
from tapeout.frontend.onnx.wire import span_of_token
from tapeout.ir.errors import CompileError

_MAX_BYTES = 2**63 - 1
_DATA_FIELDS = (
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
_EXPORT_AGAIN = "export or save the model again"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorReader:
    """Decodes the tensors of one stripped model: ``spans`` say where each raw data lies."""

    source: SourceBytes
    spans: Sequence[tuple[int, int]]
    files: ExternalFiles
    limits: Limits

    def dense(self, proto: TensorProto) -> Tensor:
        """Decode one tensor (E0306 element type, E0307 shape or data, E0308 external data)."""
        owner = f"tensor {quoted(proto.name)}"
        kind = element_type(proto.data_type, owner)
        dims = checked_dims(proto.dims, kind, owner, self.limits)
        _check_one_place(proto, kind, owner)
        if proto.data_location == TensorProto.EXTERNAL:
            data, origin = self._external(proto, kind, dims)
            return Tensor(proto.name, _frozen(_from_raw(data, kind, dims, owner)), origin)
        if proto.HasField("raw_data"):
            data, origin = self._raw(proto)
            return Tensor(proto.name, _frozen(_from_raw(data, kind, dims, owner)), origin)
        return Tensor(proto.name, _frozen(_from_field(proto, kind, dims, owner)))

    def sparse(self, proto: SparseTensorProto) -> Tensor:
        """Decode a sparse tensor into a dense one (E0311 when its indices or sizes do not hold)."""
        values = self.dense(proto.values)
        indices = self.dense(proto.indices)
        owner = f"sparse tensor {quoted(values.name)}"
        kind = element_type(proto.values.data_type, owner)
        dims = checked_dims(proto.dims, kind, owner, self.limits)
        nbytes = math.prod(dims) * kind.dtype.itemsize
        if nbytes > self.limits.dense_bytes:
            raise CompileError(
                "E0304",
                f"{owner} would be too large as a dense tensor",
                (("dims", list(dims)), ("bytes", nbytes), ("allowed", self.limits.dense_bytes)),
                "raise the cap in load_model(limits=Limits(...)) if you trust the file",
            )
        flat = _linear_indices(indices.array, values.array, dims, owner)
        dense = np.full(math.prod(dims), "" if kind is STRING else 0, kind.dtype)
        dense[flat] = values.array
        return Tensor(values.name, _frozen(dense.reshape(dims)))

    def _raw(self, proto: TensorProto) -> tuple[memoryview, Origin | None]:
        offset, length = self.spans[span_of_token(proto.raw_data)]
        path = self.source.path
        origin = Origin(path, offset, length) if path else None
        return self.source.data[offset : offset + length], origin

    def _external(
        self, proto: TensorProto, kind: ElementType, dims: tuple[int, ...]
    ) -> tuple[memoryview, Origin]:
        entries: dict[str, str] = {}
        for entry in proto.external_data:
            if entry.key in entries:
                raise CompileError(
                    "E0308",
                    f"external data of tensor {quoted(proto.name)} gives a key twice",
                    (("key", quoted(entry.key)),),
                    _EXPORT_AGAIN,
                )
            entries[entry.key] = entry.value
        if kind is STRING:
            raise _data_error(f"tensor {quoted(proto.name)}", "strings cannot be external data")
        return self.files.span(entries, raw_bytes(kind, dims), proto.name)


def checked_dims(
    dims: Sequence[int], kind: ElementType, owner: str, limits: Limits
) -> tuple[int, ...]:
    """Return ``dims`` when they describe a tensor that can exist: E0307 otherwise.

    Dimensions are multiplied without those that are zero, as numpy does: ``[0, 2**62, 2**62]``
    holds no element and still has strides that overflow.
    """
    facts = ("dims", quoted(str(list(dims[:64]))))
    if len(dims) > limits.rank:
        raise _data_error(owner, f"rank {len(dims)} is over {limits.rank}", facts)
    if any(dim < 0 for dim in dims):
        raise _data_error(owner, "a dimension is negative", facts)
    size = math.prod(dim for dim in dims if dim) * max(1, kind.dtype.itemsize)
    if size > _MAX_BYTES:
        raise _data_error(owner, "its size in bytes overflows 64 bits", facts)
    return tuple(dims)


def raw_bytes(kind: ElementType, dims: Sequence[int]) -> int:
    """Return how many bytes the raw data of a tensor takes, the last one padded."""
    return -(-math.prod(dims) * kind.bits // 8)


def _data_error(owner: str, why: str, *facts: tuple[str, object]) -> CompileError:
    return CompileError("E0307", f"{owner} is malformed: {why}", facts, _EXPORT_AGAIN)


def _check_one_place(proto: TensorProto, kind: ElementType, owner: str) -> None:
    """Refuse data in two places, or in a field that another element type uses."""
    if proto.HasField("segment"):
        raise _data_error(owner, "it is one segment of a larger tensor, which nothing can join")
    if proto.data_location not in (TensorProto.DEFAULT, TensorProto.EXTERNAL):
        raise _data_error(owner, "its data location is not known", ("found", proto.data_location))
    external = proto.data_location == TensorProto.EXTERNAL
    raw = ["raw_data"] if proto.HasField("raw_data") else []
    found = [*raw, *(name for name in _DATA_FIELDS if len(getattr(proto, name)))]
    wrong = external or (raw and kind is STRING) or any(n != kind.field for n in found if not raw)
    if found and (wrong or len(found) > 1):
        facts = (("found", ", ".join(found)), ("element type", kind.name))
        where = "external data" if external else kind.field
        raise _data_error(owner, f"it holds data beside or instead of {where}", *facts)


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _from_raw(data: memoryview, kind: ElementType, dims: tuple[int, ...], owner: str) -> Array:
    expected = raw_bytes(kind, dims)
    if len(data) != expected:
        facts = (("dims", list(dims)), ("bytes", len(data)), ("expected", expected))
        raise _data_error(owner, f"its data does not fill its shape as {kind.name}", *facts)
    if expected == 0:
        return np.zeros(dims, kind.dtype)
    if kind.bits < 8:
        return _unpacked(np.frombuffer(data, np.uint8), kind, dims)
    if kind.dtype == np.bool_:
        _check_bits(np.frombuffer(data, np.uint8), 1, owner)
    little = kind.dtype.newbyteorder("<") if kind.dtype.isbuiltin == 1 else kind.dtype
    return np.frombuffer(data, little).reshape(dims)


def _unpacked(packed: npt.NDArray[np.uint8], kind: ElementType, dims: tuple[int, ...]) -> Array:
    """Split bytes into 2-, 4- or 6-bit elements, the first in the lowest bits."""
    count = math.prod(dims)
    codes: npt.NDArray[np.uint8]
    if 8 % kind.bits == 0:
        shifts = np.arange(0, 8, kind.bits).astype(np.uint8)
        codes = (packed[:, None] >> shifts).reshape(-1)[:count] & np.uint8((1 << kind.bits) - 1)
    else:
        bits = np.unpackbits(packed, bitorder="little")[: count * kind.bits]
        codes = np.packbits(bits.reshape(count, kind.bits), axis=1, bitorder="little")
    return _from_codes(codes.reshape(-1), kind).reshape(dims)


def _from_codes(codes: npt.NDArray[np.uint8], kind: ElementType) -> Array:
    """Read sub-byte codes as elements; signed integers carry their sign through the byte."""
    if kind.dtype.name.startswith("int"):
        shift = 8 - kind.bits
        return ((codes << shift).view(np.int8) >> shift).astype(kind.dtype)
    return codes.view(kind.dtype)


def _from_field(proto: TensorProto, kind: ElementType, dims: tuple[int, ...], owner: str) -> Array:
    stored = getattr(proto, kind.field)
    per_entry = {4: 2, 2: 4}.get(kind.bits, 1)
    per_element = 2 if kind.dtype.kind == "c" else 1
    expected = -(-math.prod(dims) * per_element // per_entry)
    if len(stored) != expected:
        facts = (("dims", list(dims)), (kind.field, len(stored)), ("expected", expected))
        raise _data_error(owner, f"its data does not fill its shape as {kind.name}", *facts)
    if kind is STRING:
        return _strings(stored, dims, owner)
    if per_element == 2:
        part = np.float32 if kind.dtype == np.complex64 else np.float64
        return np.array(stored, part).view(kind.dtype).reshape(dims)
    if kind.field == "int32_data":
        return _from_int32(np.array(stored, np.int64), kind, dims, owner)
    if kind.field == "uint64_data":
        wide = np.array(stored, np.uint64)
        _check_bits(wide, np.iinfo(kind.dtype).max, owner)
        return wide.astype(kind.dtype).reshape(dims)
    return np.array(stored, kind.dtype).reshape(dims)


def _strings(stored: Sequence[bytes], dims: tuple[int, ...], owner: str) -> Array:
    try:
        texts = [item.decode() for item in stored]
    except UnicodeDecodeError as error:
        raise _data_error(owner, "a string is not UTF-8", ("at", error.start)) from error
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(dims)


def _from_int32(
    wide: npt.NDArray[np.int64], kind: ElementType, dims: tuple[int, ...], owner: str
) -> Array:
    """Read elements, or their bits, that are stored one (or several small ones) an ``int32``."""
    if kind.dtype == np.bool_:
        _check_bits(wide, 1, owner)
        return wide.astype(np.bool_).reshape(dims)
    if kind.dtype.kind in "iu" and kind.bits >= 8:
        _check_range(wide, np.iinfo(kind.dtype).min, np.iinfo(kind.dtype).max, owner)
        return wide.astype(kind.dtype).reshape(dims)
    width = 2 if kind.bits == 16 else 1
    # Writers differ in whether bits with the top one set are stored as negative.
    _check_range(wide, -(1 << (8 * width - 1)), (1 << 8 * width) - 1, owner)
    if width == 2:
        return wide.astype(np.uint16).view(kind.dtype).reshape(dims)
    codes = wide.astype(np.uint8)
    if kind.bits == 8:
        return codes.view(kind.dtype).reshape(dims)
    if kind.bits == 6:
        return _from_codes(codes & np.uint8(0x3F), kind).reshape(dims)
    return _unpacked(codes, kind, dims)


def _check_bits(values: Array, highest: int, owner: str) -> None:
    _check_range(values, 0, highest, owner)


def _check_range(values: Array, lowest: int, highest: int, owner: str) -> None:
    if values.size and (int(values.min()) < lowest or int(values.max()) > highest):
        facts = (("found", f"{values.min()} to {values.max()}"), ("allowed", (lowest, highest)))
        raise _data_error(owner, "an element does not fit its type", *facts)


def _linear_indices(
    indices: Array, values: Array, dims: tuple[int, ...], owner: str
) -> npt.NDArray[np.int64]:
    """Return the flat position of every value: in bounds, ascending, none twice."""
    count = values.size
    shapes = {(count,), (count, len(dims))}
    if indices.dtype != np.int64 or values.ndim != 1 or indices.shape not in shapes:
        facts = (
            ("values", (values.dtype, values.shape)),
            ("indices", (indices.dtype, indices.shape)),
            ("dims", list(dims)),
        )
        raise _sparse_error(owner, "indices are not int64 [n] or [n, rank] for n values", *facts)
    bounds = np.array(dims if indices.ndim == 2 else [math.prod(dims)], np.int64)
    columns = indices.reshape(count, bounds.size)
    if count and not ((columns >= 0) & (columns < bounds)).all():
        facts = (("lowest", columns.min()), ("highest", columns.max()), ("dims", list(dims)))
        raise _sparse_error(owner, "an index is outside the tensor", *facts)
    strides = np.array([math.prod(bounds.tolist()[i + 1 :]) for i in range(bounds.size)], np.int64)
    flat = columns @ strides
    if not (np.diff(flat) > 0).all():
        raise _sparse_error(owner, "indices are not in ascending order without repeats")
    return flat


def _sparse_error(owner: str, why: str, *facts: tuple[str, object]) -> CompileError:
    return CompileError("E0311", f"{owner} is malformed: {why}", facts, _EXPORT_AGAIN)
