"""Whether a format pays: the least time of a layer in it, by what a device does per second.

A layer takes the longer of two: computing its products at the device's rate for their factors,
with what it takes to round activations, and moving weights and activations from and to main
memory once (a roofline: Williams et al. 2009, doi:10.1145/1498765.1498785). Where weights are
integers, so are the factors: activations are rounded to bytes even for formats of weights alone.
That is a model: it tells a format that cannot win from one that can, not by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.ir import SSAValue

from tapeout.ir.dtypes import DType, f32, i8
from tapeout.ir.expr import as_expr, is_less, product
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.types import spec
from tapeout.passes.quantize.formats import LayerFormat
from tapeout.passes.quantize.layers import Layer
from tapeout.passes.quantize.weights import WeightFormat
from tapeout.passes.tile.looked_up import MOST_ROWS

ROUNDING_OPS = {"static": 4, "dynamic": 8}
"""Operations for each activation that becomes a byte: multiply, round, add, narrow; and for a
scale per row, two extremes and a second read before."""

DOT = 4
"""Products of bytes that one instruction sums: with fewer channels to sum, none is used."""


@dataclass(frozen=True)
class LookUps:
    """For few rows, codes of up to ``bits`` bits are looked up.

    ``rate``: 1e9 multiplications and additions per second of codes of one bit, which it replaces.
    """

    bits: int = 0
    rate: float = 0.0

    def take(self, layer: Layer, format: WeightFormat) -> bool:
        """Whether the products of a layer with such weights are looked up."""
        rows = product(spec(layer.op.y).dims[:-1])
        return (
            isinstance(layer.op, MatmulOp)
            and format.bits <= self.bits
            and is_less(rows, MOST_ROWS + 1)
        )


@dataclass(frozen=True)
class Rates:
    """What one core of a device does per second.

    ``products``: 1e9 multiplications and additions, by the type of the factors; a type that is
    not there is computed in f32. ``bytes``: 1e9 bytes of main memory. ``source``: whose they are.
    """

    products: Mapping[DType, float]
    bytes: float
    source: str
    lookups: LookUps = LookUps()


@dataclass(frozen=True)
class Prediction:
    """The least seconds of one layer: for computing, and for moving its operands."""

    compute: float
    memory: float

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.compute, self.memory)

    @property
    def limit(self) -> str:
        """Which of the two that is."""
        return "compute" if self.compute > self.memory else "memory"


@dataclass(frozen=True)
class Predictor:
    """Predicts layers on a device, at the sizes ``at`` of symbolic dimensions."""

    rates: Rates
    at: Mapping[str, int]

    def of(self, layer: Layer, format: LayerFormat | None) -> Prediction:
        """The layer in a format; None is f32, as the model has it."""
        rate, rounding = self._rate(layer, format), 0
        if format is not None and format.weight is not None:
            by = ROUNDING_OPS[format.activations or "dynamic"]
            rounding = by * self._elements(layer.input)
        # Rounding is plain arithmetic, half the rate of multiplications that add.
        compute = layer_ops(layer, self.at) / rate + rounding / (self.rates.products[f32] / 2)
        memory = (weight_bytes(layer, format) + self._activation_bytes(layer, format)) / 1e9
        return Prediction(compute / 1e9, memory / self.rates.bytes)

    def slower(self, layer: Layer, format: LayerFormat) -> bool:
        """Whether the format would make the layer slower than it is in f32."""
        return self.of(layer, format).seconds > self.of(layer, None).seconds

    def _rate(self, layer: Layer, format: LayerFormat | None) -> float:
        """1e9 operations per second of the layer's products."""
        plain = self.rates.products[f32]
        if format is None:
            return plain
        if format.weight is None:
            return self.rates.products.get(format.compute, plain)
        if self.rates.lookups.take(layer, format.weight):
            return self.rates.lookups.rate / format.weight.bits
        # Bytes that no dot takes are widened, and multiplied and added one by one.
        return self.rates.products[i8] if layer.run >= DOT else plain / 2

    def _activation_bytes(self, layer: Layer, format: LayerFormat | None) -> int:
        size, compute = self._elements(layer.input), f32 if format is None else format.compute
        read = size * compute.bytes
        if format is not None and format.weight is not None:
            # Whoever makes the input writes codes of a fixed scale; those of a row's own take a
            # pass over the input.
            read = size if format.activations == "static" else 6 * size
        return read + self._elements(layer.op.y) * compute.bytes

    def _elements(self, value: SSAValue) -> int:
        return spec(value).size.evaluate(self.at)


def layer_ops(layer: Layer, at: Mapping[str, int]) -> int:
    """Multiplications and additions of one call."""
    return as_expr(layer.op.flops()).evaluate(at)


def weight_bytes(layer: Layer, format: LayerFormat | None) -> int:
    """The bytes of a layer's weight in a format: codes, scales and zero points."""
    outputs, inputs = layer.matrix_shape
    if format is None or format.weight is None:
        return outputs * inputs * (f32 if format is None else format.compute).bytes
    return format.weight.packed_bytes(outputs, inputs)
