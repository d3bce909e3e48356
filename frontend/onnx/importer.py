"""``import_model``: a checked ONNX model becomes an ``nn`` module with the one entry ``main``."""

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import ModuleOp

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.decoder import Decoder, as_decoder
from tapeout.frontend.onnx.expand import FreshNames
from tapeout.frontend.onnx.functions import inline_functions
from tapeout.frontend.onnx.interface import entry_inputs, flat_outputs
from tapeout.frontend.onnx.narrow import check_asked, implied_limits
from tapeout.frontend.onnx.refusals import Refusals
from tapeout.frontend.onnx.registry import Rule, find_rule
from tapeout.frontend.onnx.schema_bodies import function_body
from tapeout.frontend.onnx.support import unsupported_operator, unsupported_operators
from tapeout.frontend.onnx.symbols import Range, Symbols
from tapeout.frontend.onnx.value import AnyValue, Value
from tapeout.frontend.onnx.view import CheckedModel, Graph, Node, TensorType, ValueType
from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, ReturnOp


def import_model(
    checked: CheckedModel, dims: Mapping[str, Range] | None = None, *, decoder: bool = False
) -> Module:
    """Build the module of a model; ``dims`` gives named dimensions a size or a range.

    A ``decoder`` is read as one sequence without padding (see :mod:`decoder`).

    Raises every refusal that it finds as one :class:`CompileErrors`: E0401 for an operator without
    support, E0402 for a use of one, E0405 for an input that must be known; E0103 for ``dims``.
    """
    model = inline_functions(checked)
    form = as_decoder(model, dims or {}) if decoder else None
    if form is not None:
        model, dims = form.model, form.dims
    lacking = unsupported_operators(model)
    limits: dict[str, int] = {}
    while True:
        symbols = Symbols(dims or {}, limits)
        module = _imported(model, symbols, lacking, form)
        found = implied_limits(module)
        check_asked(symbols, found)
        found = {n: min(found.get(n, hi), hi) for n, hi in (found | symbols.implied).items()}
        if not found:
            return module
        limits |= found


def _imported(
    model: CheckedModel,
    symbols: Symbols,
    lacking: Sequence[CompileError],
    form: Decoder | None = None,
) -> Module:
    inputs = entry_inputs(model, symbols)
    symbols.check_used()
    entry = EntryOp("main", inputs)
    module = Module(ModuleOp([entry]))
    builder = Builder(module, entry.body.block, symbols)
    arguments = entry.body.block.args
    given = {n: Value(s, ssa=a) for (n, s), a in zip(inputs, arguments, strict=True)}
    if form is not None:
        given |= form.assumed(builder, given)
    importer = Importer(builder, model, lacking)
    results = importer.run(model.graph, given)
    importer.refusals.finish()
    outputs = flat_outputs(model.graph.outputs, results)
    builder.append(ReturnOp([builder.ssa(value) for _, value in outputs]))
    entry.properties["outputs"] = type(entry.outputs)(tuple(name for name, _ in outputs))
    return module


class Importer:
    """Runs the rules over graphs; values are looked up in the inner graph first."""

    def __init__(
        self, builder: Builder, model: CheckedModel, lacking: Sequence[CompileError] = ()
    ) -> None:
        """Import into the builder's current block; ``lacking`` was refused already."""
        self.builder = builder
        self.refusals = Refusals(lacking)
        self.names = FreshNames.beside(model.graph)
        self.scopes: list[dict[str, AnyValue]] = []
        self.weights: dict[int, Value] = {}
        builder.import_graph = self.subgraph

    def run(self, graph: Graph, given: Mapping[str, AnyValue]) -> list[AnyValue]:
        """Import a graph's nodes with its inputs given by name; returns its outputs."""
        scope: dict[str, AnyValue] = {}
        for name, tensor in graph.initializers.items():
            if id(tensor) not in self.weights:
                self.weights[id(tensor)] = self.builder.constant(tensor.array, name)
            scope[name] = self.weights[id(tensor)]
        scope.update(given)
        self.scopes.append(scope)
        for node in graph.nodes:
            self.node(node)
        if not self.refusals.lost.isdisjoint(info.name for info in graph.outputs):
            self.refusals.finish()
        results = [self.value(info.name) for info in graph.outputs]
        self.scopes.pop()
        return results

    def subgraph(self, graph: Graph, inputs: Sequence[AnyValue]) -> list[AnyValue]:
        """Import a body with its inputs by position; E0310 when it takes another number."""
        if len(graph.inputs) != len(inputs):
            raise CompileError(
                "E0310",
                "a body takes another number of inputs than its operator gives",
                [("takes", len(graph.inputs)), ("given", len(inputs))],
                "export the model again",
            )
        return self.run(graph, {i.name: v for i, v in zip(graph.inputs, inputs, strict=True)})

    def value(self, name: str) -> AnyValue:
        """The value of a name, from the innermost graph outwards."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        raise AssertionError(f"the loader lets no undefined name pass: {name!r}")

    def node(self, node: Node) -> None:
        """Import one node; a refusal is kept, and values stand in for what it would have made."""
        if self.refusals.is_lost(node):
            return
        given = [self.value(name) if name else None for name in node.inputs]
        while given and given[-1] is None:
            given.pop()
        guess, depth = self.refusals.is_guess(node), (len(self.scopes), len(self.builder.scopes))
        try:
            self.make(node, given)
        except CompileError as error:
            self.refusals.keep(error, guess=guess)
            code = error.code
        except Exception:
            # A rule's own fault, but no rule can be right about a guess.
            if not guess:
                raise
            code = ""
        else:
            return
        del self.scopes[depth[0] :], self.builder.scopes[depth[1] :]
        self.scopes[-1].update(self.refusals.stand_ins(self.builder, node, given, code))

    def make(self, node: Node, given: Sequence[AnyValue | None]) -> None:
        """Import one node by its rule, or by the body that ONNX defines for it."""
        found = find_rule(node.domain, node.op_type, node.version)
        if found is None:
            self.body(node, given)
            return
        results = self.apply(found, Call(node), given)
        self.scopes[-1].update(
            {name: value for name, value in zip(node.outputs, results, strict=False) if name}
        )

    def body(self, node: Node, given: Sequence[AnyValue | None]) -> None:
        """Import the body that ONNX defines for a node; E0401 when it has none."""
        body = function_body(node, [_type_of(v) for v in given], self.names)
        if not body:
            raise unsupported_operator((node.domain, node.op_type, node.version), [node])
        for inner in body:
            self.node(inner)

    def apply(
        self, rule: Rule, node: Call, given: Sequence[AnyValue | None]
    ) -> tuple[AnyValue, ...]:
        """Run one rule; a refusal from inside an operator gets the node's name."""
        arguments = rule.arguments(node, given)
        if not rule.containers and any(not isinstance(a, Value | None) for a in arguments):
            node.refuse("a sequence or optional where a tensor is expected")
        outer, self.builder.node = self.builder.node, node.node.label
        try:
            made = rule.function(self.builder, node, *arguments)
        except CompileError as error:
            if not any(label == "where" for label, _ in error.facts):
                error.facts = (*error.facts, ("where", node.node.label))
            raise
        finally:
            self.builder.node = outer
        results = made if isinstance(made, tuple) else (made,)
        missing = [i for i in range(len(results), node.outputs) if node.wants(i)]
        if missing:
            node.refuse(f"output {missing[0]} has no support")
        return results


def _type_of(value: AnyValue | None) -> ValueType | None:
    if not isinstance(value, Value):
        return None
    return TensorType(value.dtype.numpy, tuple(d.constant for d in value.dims))
