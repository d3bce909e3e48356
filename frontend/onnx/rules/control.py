"""If, Loop and Scan."""

from collections.abc import Sequence

from xdsl.ir import Region

from tapeout.frontend.onnx.branches import end_branch, joined
from tapeout.frontend.onnx.builder import Builder, Scope
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.repeat import Repeat, constant_condition, declared
from tapeout.frontend.onnx.value import AnyValue, Items, Slices, Value
from tapeout.frontend.onnx.view import Graph
from tapeout.frontend.onnx.view import TensorType as DeclaredType
from tapeout.ir.dtypes import boolean
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.structure import IfOp
from tapeout.ir.shapes import check_axis
from tapeout.ir.types import Spec, TensorType, spec


@rule("If", containers=True)
def if_(b: Builder, node: Call, condition: Value) -> tuple[AnyValue, ...]:
    """One branch when the condition is known, else both under ``nn.if``."""
    condition = b.convert(b.reshape(condition, ()), boolean)
    graphs = [node.graph("then_branch"), node.graph("else_branch")]
    if condition.array is not None:
        return tuple(b.graph(graphs[0 if condition.array else 1], []))
    scopes = [Scope(), Scope()]
    results: list[list[AnyValue]] = []
    for scope, graph in zip(scopes, graphs, strict=True):
        with b.into(scope):
            results.append(b.graph(graph, []))
    flat = [_flat(r) for r in results]
    specs = None if len(flat[0]) != len(flat[1]) else _joined(b, flat)
    if specs is None or not _same_form(*results):
        raise b.not_known(node, "a condition whose branches differ in form", condition)
    for scope, values in zip(scopes, flat, strict=True):
        end_branch(b, scope, values, specs)
    then, otherwise = (Region(scope.block) for scope in scopes)
    op = IfOp(b.ssa(condition), then, otherwise, [TensorType(s) for s in specs])
    b.append(op)
    return _like(results[0], [Value(spec(r), ssa=r) for r in op.results])


@rule("Loop", containers=True)
def loop(
    b: Builder,
    node: Call,
    trips: Value | None = None,
    condition: Value | None = None,
    *carried: AnyValue,
) -> tuple[AnyValue, ...]:
    """The body again and again, while there are trips left and the condition holds."""
    body = node.graph("body")

    def run(step: Value, going: Value, values: Sequence[AnyValue]) -> list[AnyValue]:
        return _declared(b, body, b.graph(body, [step, going, *values]))

    made = Repeat(
        node,
        run,
        None if trips is None else b.reshape(trips, ()),
        constant_condition(b, True) if condition is None else b.reshape(condition, ()),
        carried,
        len(body.outputs) - 1 - len(carried),
    )
    return tuple(made.build(b))


@rule("Scan", since=9)
def scan(b: Builder, node: Call, *inputs: Value) -> tuple[Value, ...]:
    """The body over the slices of the scanned inputs."""
    return tuple(_scan(b, node, inputs, "scan_input_directions"))


@rule("Scan", since=8)
def scan_batched(
    b: Builder, node: Call, lengths: Value | None = None, *inputs: Value
) -> tuple[Value, ...]:
    """Version 8: every value has a leading batch axis; its elements run one after the other."""
    if lengths is not None:
        node.refuse("Scan of version 8 with sequence lengths", fix="export for version 9 or later")
    batch = inputs[0].dims[0].constant if inputs else None
    if batch is None:
        node.refuse("Scan of version 8 over an unknown batch", fix="export for version 9 or later")
    runs = [
        _scan(b, node, [_slice(b, x, 0, b.size(i)) for x in inputs], "directions")
        for i in range(batch)
    ]
    columns = zip(*runs, strict=True)
    return tuple(b.concat([b.reshape(v, [1, *v.dims]) for v in column], 0) for column in columns)


def _scan(b: Builder, node: Call, inputs: Sequence[Value], directions: str) -> list[Value]:
    body, count = node.graph("body"), node.integer("num_scan_inputs")
    if not 1 <= count <= len(inputs):
        node.invalid("num_scan_inputs does not fit the inputs", ("num_scan_inputs", count))
    states, scanned = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    outputs = len(body.outputs) - len(states)
    axes = [
        check_axis(a, x.rank, "Scan")
        for a, x in zip(node.integers("scan_input_axes", [0] * count), scanned, strict=True)
    ]
    backwards = node.integers(directions, [0] * count)
    trips = scanned[0].dims[axes[0]]

    def run(step: Value, going: Value, values: Sequence[AnyValue]) -> list[AnyValue]:
        last = b.map("sub", b.size(trips - 1), step)
        slices = [
            _slice(b, x, axis, last if back else step)
            for x, axis, back in zip(scanned, axes, backwards, strict=True)
        ]
        return [going, *_declared(b, body, b.graph(body, [*values, *slices]))]

    yes = constant_condition(b, True)
    made = Repeat(node, run, b.size(trips), yes, states, outputs).build(b)
    results = [v for v in made if isinstance(v, Value)]
    tail = results[len(states) :]
    flips = node.integers("scan_output_directions", [0] * outputs)
    places = node.integers("scan_output_axes", [0] * outputs)
    turned = [_turned(b, v, f, p) for v, f, p in zip(tail, flips, places, strict=True)]
    return [*results[: len(states)], *turned]


def _slice(b: Builder, x: Value, axis: int, place: Value) -> Value:
    """The slice of ``x`` at a rank-0 place; the axis goes."""
    known = b.exprs(place) if place.array is not None else None
    if known is None:
        index = Value(place.spec, ssa=b.ssa(place))
        return b.make(GatherOp, x, index, axis=axis)
    part = b.slice_axis(x, axis, known[0], 1)
    return b.reshape(part, [d for i, d in enumerate(x.dims) if i != axis])


def _turned(b: Builder, x: Value, backwards: int, axis: int) -> Value:
    """A stacked output in the order and with the axis asked for."""
    if backwards:
        starts = [x.dims[0] - 1, *[0] * (x.rank - 1)]
        x = b.slice(x, starts, x.dims, [-1, *[1] * (x.rank - 1)])
    axis = check_axis(axis, x.rank, "Scan")
    order = list(range(1, x.rank))
    return b.transpose(x, [*order[:axis], 0, *order[axis:]])


def _declared(b: Builder, body: Graph, values: list[AnyValue]) -> list[AnyValue]:
    """A body's results with the numbers it declares for sizes that data decides."""
    made: list[AnyValue] = []
    for info, value in zip(body.outputs, values, strict=True):
        if isinstance(value, Value) and isinstance(info.type, DeclaredType):
            made.append(b.reshape(value, declared(value, info.type.shape)))
        else:
            made.append(value)
    return made


def _joined(b: Builder, branches: Sequence[Sequence[Value]]) -> list[Spec] | None:
    made = [joined(b, [v.spec for v in values]) for values in zip(*branches, strict=True)]
    return None if None in made else [m for m in made if m is not None]


def _flat(values: Sequence[AnyValue]) -> list[Value]:
    """The tensors of results, those in sequences too."""
    found: list[Value] = []
    for value in values:
        if isinstance(value, Value):
            found.append(value)
        elif isinstance(value, Items):
            found.extend(value.values)
        elif isinstance(value, Slices):
            found.append(value.tensor)
    return found


def _same_form(left: Sequence[AnyValue], right: Sequence[AnyValue]) -> bool:
    def form(value: AnyValue) -> object:
        if isinstance(value, Items):
            return len(value.values), value.before
        return type(value)

    return list(map(form, left)) == list(map(form, right))


def _like(form: Sequence[AnyValue], tensors: Sequence[Value]) -> tuple[AnyValue, ...]:
    """The tensors put back into sequences as ``form`` has them."""
    rest = iter(tensors)
    made: list[AnyValue] = []
    for value in form:
        if isinstance(value, Items):
            values = tuple(next(rest) for _ in value.values)
            made.append(Items(values, value.element, value.before))
        elif isinstance(value, Slices):
            made.append(Slices(next(rest)))
        else:
            made.append(next(rest) if isinstance(value, Value) else value)
    return tuple(made)
