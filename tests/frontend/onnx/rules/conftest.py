"""One node as a model of its own, run through the importer and the evaluator, and by peers."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tapeout.frontend.onnx.importer import import_model
from tapeout.frontend.onnx.load import load_model
from tapeout.ir.evaluator import evaluate
from tapeout.ir.module import Module

Array = np.ndarray[Any, Any]

_DOMAIN_VERSIONS = {"com.microsoft": 1, "ai.onnx.preview.training": 1, "ai.onnx.ml": 3}


@dataclass
class OneNode:
    """A model of one node; inputs are ``None`` where left out.

    ``fixed`` names inputs that are constants of the model, ``open_dims`` makes every dimension
    of the others symbolic.
    """

    op: str
    inputs: Mapping[str, Array | None]
    outputs: int | Sequence[str] = 1
    opset: int = 20
    domain: str = ""
    fixed: Sequence[str] = ()
    open_dims: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def fed(self) -> dict[str, Array]:
        """The inputs that a call gives."""
        given = {n: a for n, a in self.inputs.items() if a is not None}
        return {n: np.asarray(a) for n, a in given.items() if n not in self.fixed}

    def proto(self) -> onnx.ModelProto:
        """The model."""
        names = [n if a is not None else "" for n, a in self.inputs.items()]
        outs = (
            [f"y{i}" for i in range(self.outputs)]
            if isinstance(self.outputs, int)
            else self.outputs
        )
        node = helper.make_node(self.op, names, outs, "the_node", domain=self.domain, **self.attrs)
        graph = helper.make_graph(
            [node],
            "one",
            [self._info(n, a) for n, a in self.fed.items()],
            [onnx.ValueInfoProto(name=name) for name in outs if name],
            [onnx.numpy_helper.from_array(np.asarray(self.inputs[n]), n) for n in self.fixed],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            # Version 5 of the classic domain has this operator, and deprecates those before it.
            newest = 5 if self.op == "TreeEnsemble" else _DOMAIN_VERSIONS[self.domain]
            opsets.append(helper.make_opsetid(self.domain, newest))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _info(self, name: str, array: Array) -> onnx.ValueInfoProto:
        dims = [f"{name}_{i}" for i in range(array.ndim)] if self.open_dims else array.shape
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), list(dims)
        )

    def module(self) -> Module:
        """The imported module, verified."""
        module = import_model(load_model(self.proto()))
        module.ir.verify()
        return module

    def evaluated(self) -> list[Array]:
        """Outputs under the reference evaluator of the IR."""
        return list(evaluate(self.module(), self.fed).values())

    def operators(self) -> list[str]:
        """Names of the operators that the node became."""
        (entry,) = self.module().entries()
        return [op.name for op in entry.body.block.ops]


@pytest.fixture
def one_node() -> type[OneNode]:
    """The class that makes models of one node."""
    return OneNode


@pytest.fixture
def agrees_with_onnxruntime() -> Callable[..., None]:
    """A check that the evaluator and ONNX Runtime give the same outputs."""

    def check(node: OneNode, rtol: float = 1e-4, atol: float = 1e-5) -> None:
        for have, want in zip(node.evaluated(), _by_onnxruntime(node), strict=True):
            assert have.dtype == want.dtype
            np.testing.assert_allclose(have, want, rtol=rtol, atol=atol)

    return check


def _by_onnxruntime(node: OneNode) -> list[Array]:
    # ONNX Runtime has no type stubs.
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    encoded = node.proto().SerializeToString()
    return ort.InferenceSession(encoded, options, ["CPUExecutionProvider"]).run(None, node.fed)


@pytest.fixture
def numbers() -> Callable[..., Array]:
    """Reproducible normal numbers of a shape, as f32."""
    source = np.random.default_rng(7)

    def normal(*shape: int) -> Array:
        return source.standard_normal(shape).astype(np.float32)

    return normal
