"""ONNX's own nodes with one thing wrong: each is refused with a code, or imports as it stands."""

import random
import warnings
from typing import Any

import onnx
import pytest
from onnx import AttributeProto, ModelProto
from onnx.backend.test.loader import load_model_tests

from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.frontend.onnx.registry import find_rule
from tapeout.ir.errors import CompileError

INTEGERS = (0, -1, 1, 2, 3, -7, 100, 2**31, 2**62, -(2**62))
REALS = (0.0, -1.0, float("nan"), float("inf"), 1e-30)
TEXTS = (b"", b"x", b"SAME_LOWER", b"linear", b"->", b"...", b"i,j->k", b"'\n*/")
SIZES = (0, 1, 2, 3, 7, 2**31, 2**62)


FAMILIES = (
    *("conv", "conv_integer", "pool", "norm", "attention", "rotary", "recurrent", "resample"),
    *("quantize", "signal", "einsum", "loss", "training", "detection", "classic_ml", "trees"),
    "ngram",
)
"""Modules of rules whose nodes are mutated here."""


@pytest.fixture(scope="module")
def models() -> dict[str, list[ModelProto]]:
    """The models of one node by the module of the node's rule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    found: dict[str, list[ModelProto]] = {}
    for case in cases:
        if case.model and len(case.model.graph.node) == 1:
            found.setdefault(_family(case.model), []).append(case.model)
    return found


def _family(model: ModelProto) -> str:
    (node,) = model.graph.node
    versions = {opset.domain: opset.version for opset in model.opset_import}
    rule = find_rule(node.domain, node.op_type, versions[node.domain])
    return rule.function.__module__.rpartition(".")[2] if rule else ""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mutated_node_is_refused_with_a_code_or_imports(
    models: dict[str, list[ModelProto]], family: str
) -> None:
    source = random.Random(family)
    for _ in range(60):
        model = _mutated(source.choice(models[family]), source)
        try:
            import_model(load_model(model)).ir.verify()
        except CompileError:
            continue
        except Exception as error:
            error.add_note(str(model))
            raise


def _mutated(model: ModelProto, source: random.Random) -> ModelProto:
    model = ModelProto.FromString(model.SerializeToString())
    (node,) = model.graph.node
    for output in model.graph.output:
        output.type.Clear()
    shaped = [i for i in model.graph.input if i.type.tensor_type.shape.dim]
    if shaped and source.random() < 0.4:
        _mutate_shape(source.choice(shaped).type.tensor_type.shape, source)
    if node.attribute and source.random() < 0.8:
        _mutate_attribute(source.choice(node.attribute), source)
    if node.input and source.random() < 0.15:
        node.input[source.randrange(len(node.input))] = ""
    if source.random() < 0.1:
        node.output.append("more")
    return model


def _mutate_shape(shape: onnx.TensorShapeProto, source: random.Random) -> None:
    kind = source.randrange(4)
    if kind == 0:
        source.choice(shape.dim).dim_value = source.choice(SIZES)
    elif kind == 1:
        source.choice(shape.dim).dim_param = "S"
    elif kind == 2:
        shape.dim.pop()
    else:
        shape.dim.add().dim_value = source.choice((1, 3))


def _mutate_attribute(attribute: AttributeProto, source: random.Random) -> None:
    kind = attribute.type
    if kind == AttributeProto.INT:
        attribute.i = source.choice(INTEGERS)
    elif kind == AttributeProto.FLOAT:
        attribute.f = source.choice(REALS)
    elif kind == AttributeProto.STRING:
        attribute.s = source.choice(TEXTS)
    elif kind == AttributeProto.INTS:
        _mutate_list(attribute.ints, INTEGERS, source)
    elif kind == AttributeProto.FLOATS:
        _mutate_list(attribute.floats, REALS, source)


def _mutate_list(values: Any, choices: tuple[Any, ...], source: random.Random) -> None:
    if not values or source.random() < 0.3:
        values.append(source.choice(choices))
    elif source.random() < 0.4:
        values.pop()
    else:
        values[source.randrange(len(values))] = source.choice(choices)
