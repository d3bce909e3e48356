"""``import_program``: an exported program becomes an ``nn`` module with the one entry ``main``."""

# torch is typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.cache import cache_of
from tapeout.frontend.aten.call import Call, operator_name, place
from tapeout.frontend.aten.element_types import Array, array_of, element_type
from tapeout.frontend.aten.export import Exported, decomposed
from tapeout.frontend.aten.interface import output_names
from tapeout.frontend.aten.refusals import is_size, unsupported_operators
from tapeout.frontend.aten.registry import Rule, find_rule, signature
from tapeout.frontend.aten.sizes import Range, Sizes
from tapeout.ir.errors import CompileError, together
from tapeout.ir.expr import Expr
from tapeout.ir.module import Module
from tapeout.ir.ops.structure import EntryOp, ReturnOp
from tapeout.ir.types import Spec, spec

_MEANS_NOTHING = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "generator"}
"""Arguments that say where or how torch keeps a tensor, not what is in it."""
_STATE_OUTPUTS = (OutputKind.BUFFER_MUTATION,)


def import_program(made: Exported, dims: Mapping[str, Range] | None = None) -> Module:
    """Build the module of a program; ``dims`` narrows its dynamic dimensions.

    Raises every refusal as one: E0401 for operators without support, E0402 for uses of one,
    E0103 for ``dims``.
    """
    program = decomposed(made.program)
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, fx.GraphModule)]
    lacking = unsupported_operators(graphs)
    if lacking:
        raise together(lacking, "operators have no support")
    sizes = Sizes(program.range_constraints, made.names, dims)
    importer = Importer(program, sizes, made.context)
    return importer.run()


class _Lost(Exception):
    """A graph inside of the graph has no results: what is wrong with it is told elsewhere."""


class Importer:
    """Runs the rules over a graph; ``values`` holds what each of its nodes became."""

    def __init__(self, program: ExportedProgram, sizes: Sizes, context: int | None = None) -> None:
        self.program, self.sizes, self.context = program, sizes, context
        self.values: dict[fx.Node, Any] = {}
        self.refusals: list[CompileError] = []
        self.weights: dict[tuple[Any, ...], SSAValue] = {}
        self.lost = set[fx.Node]()

    def run(self) -> Module:
        """The whole program."""
        graph, signature = self.program.graph, self.program.graph_signature
        nodes = [n for n in graph.nodes if n.op == "placeholder"]
        inputs = list(zip(nodes, signature.input_specs, strict=True))
        changed = _changed_buffers(self.program)
        states = [(n, s) for n, s in inputs if s.target in changed and s.kind is InputKind.BUFFER]
        given = [(n, s) for n, s in inputs if _is_tensor_input(n, s)]
        ports = [(s.arg.name, self.spec(n)) for n, s in given]
        self.sizes.tell(d for _, s in ports for d in s.dims)
        names = [str(s.target) for _, s in states]
        kept = [(name, self.spec(n)) for name, (n, _) in zip(names, states, strict=True)]
        cache = cache_of(graph, context=self.context)
        more = [] if cache is None else cache.inputs(_tokens(ports))
        cached = [] if cache is None else cache.states()
        ports += [*more, *kept, *cached]
        entry = EntryOp("main", ports, states=[*names, *(name for name, _ in cached)])
        module = Module(ModuleOp([entry]))
        module.states.update(self.first_contents(names))
        self.builder = Builder(module, entry.body.block, self.sizes)
        self.builder.graph = self.graph
        arguments = dict(zip((name for name, _ in ports), entry.body.block.args, strict=True))
        for node, its in [*given, *states]:
            name = str(its.target) if its.kind is InputKind.BUFFER else its.arg.name
            self.values[node] = arguments[name]
        if cache is not None:
            self.builder.cache = dict[str, SSAValue](arguments)
        for node, its in inputs:
            if node not in self.values:
                self.values[node] = self.fixed(node, its)
        for node in graph.nodes:
            self.node(node)
        if self.refusals:
            raise together(self.refusals, "uses of operators have no support")
        self.finish(entry, graph.output_node())
        return module

    def graph(self, inner: fx.GraphModule, arguments: Sequence[Any]) -> list[Any]:
        """Import a graph that an operator holds, at the builder's place."""
        nodes = [n for n in inner.graph.nodes if n.op == "placeholder"]
        for node, value in zip(nodes, arguments, strict=True):
            if isinstance(node.meta["val"], torch.SymInt | int) and value != self.size(node):
                raise CompileError(
                    "E0402",
                    "an integer goes into a graph that calls it otherwise",
                    [("integer", node.name)],
                    "make it a tensor: torch.tensor(n)",
                )
            self.values[node] = value
        for node in inner.graph.nodes:
            self.node(node)
        last = inner.graph.output_node()
        if not self.lost.isdisjoint(last.all_input_nodes):
            raise _Lost
        results = self.given(last.args[0])
        return results if isinstance(results, list) else [results]

    def spec(self, node: fx.Node) -> Spec:
        """Shape and element type of a tensor input."""
        value = node.meta["val"]
        return Spec(self.sizes.dims(value.shape), element_type(value.dtype))

    def first_contents(self, names: Sequence[str]) -> dict[str, Array]:
        """What buffers hold before the first run, where it is not zeros."""
        tensors = {n: self.program.state_dict.get(n, self.program.constants.get(n)) for n in names}
        arrays = {n: array_of(t) for n, t in tensors.items() if isinstance(t, torch.Tensor)}
        return {n: a for n, a in arrays.items() if a.astype(bool).any()}

    def fixed(self, node: fx.Node, its: InputSpec) -> Any:
        """A parameter, buffer or constant of the model; a plain value that was exported with it."""
        if isinstance(its.arg, ConstantArgument):
            return its.arg.value
        if its.kind is InputKind.USER_INPUT:
            return self.sizes.of(node.meta["val"])
        target = str(its.target)
        tensor = self.program.state_dict.get(target, self.program.constants.get(target))
        if not isinstance(tensor, torch.Tensor):
            raise CompileError(
                "E0402",
                "an input of the graph is no tensor",
                [("input", node.name)],
                "export again",
            )
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if key not in self.weights or not tensor.numel():
            self.weights[key] = self.builder.literal(array_of(tensor), target)
        return self.weights[key]

    def node(self, node: fx.Node) -> None:
        """Import one node; of nodes that read a refused one nothing is said."""
        if node.op == "get_attr":
            self.values[node] = self.attribute(node)
        if node.op != "call_function":
            return
        if not self.lost.isdisjoint(node.all_input_nodes):
            self.lost.add(node)
            return
        try:
            self.builder.place = place(node)
            self.values[node] = self.made(node)
        except CompileError as error:
            if not any(label == "where" for label, _ in error.facts):
                error.facts = (*error.facts, ("where", place(node)))
            self.refusals.append(error)
            self.lost.add(node)
        except _Lost:
            self.lost.add(node)

    def size(self, node: fx.Node) -> Expr:
        """An integer that a node stands for, by torch's own tree."""
        return self.sizes.of(node.meta["val"])

    def attribute(self, node: fx.Node) -> Any:
        """A graph that the program holds, or a tensor that one of its graphs holds."""
        held = operator.attrgetter(str(node.target))(node.graph.owning_module)
        return self.builder.literal(array_of(held)) if isinstance(held, torch.Tensor) else held

    def made(self, node: fx.Node) -> Any:
        """What a node becomes: an expression for a size, else what its rule returns."""
        rule = find_rule(operator_name(node))
        if rule is None and is_size(node):
            value = node.meta["val"]
            known = isinstance(value, bool | torch.SymBool)
            return value if known else self.sizes.of(value)
        if node.target is operator.getitem:
            values, at = self.given(node.args)
            return values[at]
        assert rule is not None, "operators without a rule were refused"
        call = Call(node, self.sizes)
        positional, named = self.arguments(call, rule)
        made = rule(self.builder, call, *positional, **named)
        values = made if isinstance(made, tuple) else (made,)
        dims = [d for v in values if isinstance(v, SSAValue) for d in spec(v).dims]
        lost = self.sizes.unbound(dims)
        if lost:
            call.refuse("a size comes from where nothing is known of it", ("size", lost[0]))
        return made

    def arguments(self, call: Call, rule: Rule) -> tuple[list[Any], dict[str, Any]]:
        """A node's arguments as its rule takes them: by position, and by name."""
        node, takes = call.node, signature(rule)
        if not isinstance(node.target, torch._ops.OpOverload):
            return [self.given(a) for a in node.args], {}
        positional, named = list[Any](), dict[str, Any]()
        for i, argument in enumerate(node.target._schema.arguments):
            name, default = argument.name, argument.default_value
            value = node.args[i] if i < len(node.args) else node.kwargs.get(name, default)
            if not argument.kwarg_only and (takes.most is None or len(positional) < takes.most):
                positional.append(self.given(value))
            elif name in takes.names:
                named[name] = self.given(value)
            else:
                self.check_default(call, name, value, default)
        return positional, named

    def check_default(self, call: Call, name: str, value: Any, default: Any) -> None:
        """E0402 when an argument that a rule does not know has another value than its default."""
        if name not in _MEANS_NOTHING and value is not None and value != default:
            call.refuse(f"argument {name!r} has no support", ("given", value), ("known", default))

    def given(self, value: Any) -> Any:
        """An argument with its nodes replaced by what they became."""
        if isinstance(value, fx.Node):
            return self.values[value]
        if isinstance(value, list | tuple):
            return [self.given(v) for v in value]
        return self.sizes.of(value) if isinstance(value, torch.SymInt) else value

    def finish(self, entry: EntryOp, last: fx.Node) -> None:
        """Return the outputs by their names in the model's own result."""
        results: Sequence[Any] = self.given(last.args[0])
        specs = self.program.graph_signature.output_specs
        made = list(zip(specs, results, strict=True))
        others = [s for s, _ in made if s.kind not in (OutputKind.USER_OUTPUT, *_STATE_OUTPUTS)]
        if others:
            raise CompileError(
                "E0402",
                "the program changes its inputs in place, which has no support",
                [("changes", ", ".join(str(s.target or s.arg) for s in others[:8]))],
                "have the model return the new value, or keep it in a buffer",
            )
        values = [v for s, v in made if s.kind is OutputKind.USER_OUTPUT]
        names = output_names(self.program, len(values))
        kept = [(n, v) for n, v in zip(names, values, strict=True) if v is not None]
        new = {str(s.target): v for s, v in made if s.kind in _STATE_OUTPUTS}
        new |= {n: v for n, v in (self.builder.cache or {}).items() if n not in new}
        kept += [(name, new[name]) for name in entry.state_names]
        self.builder.builder.insert(ReturnOp([self.builder.tensor(v) for _, v in kept]))
        entry.properties["outputs"] = type(entry.outputs)(tuple(n for n, _ in kept))


def _tokens(ports: Sequence[tuple[str, Spec]]) -> Expr:
    """How many tokens a program takes: the length of its input ``positions``."""
    found = [t.dims[0] for name, t in ports if name == "positions"]
    assert found, "a program with a cache takes the positions of its tokens"
    return found[0]


def _changed_buffers(program: ExportedProgram) -> set[str]:
    """Buffers that the program writes to."""
    specs = program.graph_signature.output_specs
    return {str(s.target) for s in specs if s.kind in _STATE_OUTPUTS}


def _is_tensor_input(node: fx.Node, its: InputSpec) -> bool:
    value = node.meta.get("val")
    return its.kind is InputKind.USER_INPUT and isinstance(value, torch.Tensor)
