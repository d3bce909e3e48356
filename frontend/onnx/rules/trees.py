"""Ensembles of decision trees: all rows walk down all trees at once, one level at a time."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.classic_ml import DOMAIN, TRANSFORMS, best_label, transformed
from tapeout.frontend.onnx.rules.tree_table import MODES, TreeTable
from tapeout.frontend.onnx.value import Array, Value
from tapeout.ir.dtypes import f32, f64
from tapeout.ir.ops.index import GatherElementsOp, GatherOp

T = TypeVar("T")

VOTES = 1 << 26
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@rule("TreeEnsemble", domain=DOMAIN, since=5)
def tree_ensemble(b: Builder, node: Call, x: Value) -> Value:
    """``[N, F]`` to ``[N, n_targets]``: the leaves reached, combined over the trees."""
    splits = node.tensor("nodes_splits").array.reshape(-1)
    inner = len(splits)
    table = TreeTable(x.dtype.numpy)
    weights = node.tensor("leaf_weights").array.reshape(-1)
    table.reserve(inner + len(weights))
    yes = _children(node, "nodes_truenodeids", "nodes_trueleafs", inner)
    no = _children(node, "nodes_falsenodeids", "nodes_falseleafs", inner)
    members = _members(node)
    modes = _listed(node, [int(m) for m in node.tensor("nodes_modes").array], inner)
    features = _listed(node, node.integers("nodes_featureids"), inner)
    tracks = node.integers("nodes_missing_value_tracks_true") or (0,) * inner
    for i in range(inner):
        mode = MODES[modes[i]] if 0 <= modes[i] < len(MODES) else ""
        values = next(members, None) if mode == "BRANCH_MEMBER" else [splits[i]]
        if not mode or values is None:
            node.invalid("an unknown comparison, or one without its members", ("mode", modes[i]))
        table.branch(i, mode, features[i], values, yes[i], no[i], yes[i] if tracks[i] else no[i])
    aggregate = AGGREGATES[_within(node, "aggregate_function", 1, len(AGGREGATES))]
    targets = _listed(node, node.integers("leaf_targetids"), len(weights))
    votes = _votes(
        node, table, [inner + i for i in range(len(weights))], targets, weights,
        node.integer("n_targets", 1), aggregate,
    )  # fmt: skip
    made = _evaluated(b, node, x, table, node.integers("tree_roots"), votes, aggregate)
    return transformed(b, node, made, TRANSFORMS[_within(node, "post_transform", 0, 5)])


@rule("TreeEnsembleRegressor", domain=DOMAIN)
def tree_ensemble_regressor(b: Builder, node: Call, x: Value) -> Value:
    """As ``TreeEnsemble``, in the older encoding by tree and node ids."""
    aggregate = node.text("aggregate_function", "SUM")
    if aggregate not in AGGREGATES:
        node.invalid("unknown aggregate function", ("aggregate_function", aggregate))
    count = node.integer("n_targets", 1)
    made = _older(b, node, x, "target", count, node.integers("target_ids"), aggregate)
    return transformed(b, node, made, node.text("post_transform", "NONE"))


@rule("TreeEnsembleClassifier", domain=DOMAIN)
def tree_ensemble_classifier(b: Builder, node: Call, x: Value) -> tuple[Value, Value]:
    """The label of the best score, and all scores.

    Where all votes are for one of two classes, the other's score is 1 less it, or its negative
    before a transform.
    """
    labels = np.array(node.integers("classlabels_int64s"), np.int64)
    if not labels.size:
        node.refuse("labels that are text", fix="map the labels after the model")
    ids = node.integers("class_ids")
    transform = node.text("post_transform", "NONE")
    scores = _older(b, node, x, "class", len(labels), ids, "SUM")
    if len(set(ids)) == 1 and len(labels) == 2:
        own = b.slice_axis(scores, 1, ids[0], 1)
        plain = transform == "NONE"
        other = b.map("sub", b.scalar(1, f32), own) if plain else b.map("neg", own)
        scores = b.concat([other, own], 1)
    made = transformed(b, node, scores, transform)
    return best_label(b, made, labels), made


def _older(
    b: Builder,
    node: Call,
    x: Value,
    prefix: str,
    count: int,
    targets: Sequence[int],
    aggregate: str,
) -> Value:
    x = x if x.dtype in (f32, f64) else b.convert(x, f32)
    keys = list(zip(node.integers("nodes_treeids"), node.integers("nodes_nodeids"), strict=False))
    places = {key: i for i, key in enumerate(keys)}
    table = TreeTable(x.dtype.numpy)
    table.reserve(len(keys))
    _older_branches(node, table, keys, places)
    owners = zip(
        node.integers(f"{prefix}_treeids"), node.integers(f"{prefix}_nodeids"), strict=False
    )
    leaves = [places.get(key, -1) for key in owners]
    weights = _reals(node, f"{prefix}_weights")
    votes = _votes(node, table, leaves, targets, weights, count, aggregate)
    firsts: dict[int, int] = {}
    for i, (tree, _) in enumerate(keys):
        firsts.setdefault(tree, i)
    made = _evaluated(b, node, x, table, list(firsts.values()), votes, aggregate)
    base = _reals(node, "base_values")
    made = b.convert(made, f32)
    return b.map("add", made, b.constant(base.astype(np.float32))) if base.size else made


def _older_branches(
    node: Call,
    table: TreeTable,
    keys: Sequence[tuple[int, int]],
    places: dict[tuple[int, int], int],
) -> None:
    count = len(keys)
    modes = _listed(node, node.texts("nodes_modes"), count)
    features = _listed(node, node.integers("nodes_featureids"), count)
    splits = _listed(node, _reals(node, "nodes_values").tolist(), count)
    yes = _listed(node, node.integers("nodes_truenodeids"), count)
    no = _listed(node, node.integers("nodes_falsenodeids"), count)
    tracks = node.integers("nodes_missing_value_tracks_true") or (0,) * count
    for i, mode in enumerate(modes):
        if mode == "LEAF":
            continue
        if mode not in MODES[:-1]:
            node.invalid("an unknown comparison", ("mode", mode))
        tree = keys[i][0]
        on, off = (places.get((tree, child[i]), -1) for child in (yes, no))
        table.branch(i, mode, features[i], [splits[i]], on, off, on if tracks[i] else off)


def _votes(
    node: Call,
    table: TreeTable,
    leaves: Sequence[int],
    targets: Sequence[int],
    weights: Array,
    count: int,
    aggregate: str,
) -> Array:
    """``[nodes, targets]``: what each leaf adds; where it says nothing, what changes nothing."""
    leaves_fit = len(leaves) == len(targets) == len(weights) and min(leaves, default=0) >= 0
    if count < 1 or not leaves_fit or not all(0 <= t < count for t in targets):
        node.invalid("weights, leaves and targets do not fit together", ("targets", count))
    if count * len(table.feature) > VOTES:
        node.refuse("so many targets and leaves", ("targets", count), ("most votes", VOTES))
    ends = np.finfo(table.dtype)
    idle = {"MIN": ends.max, "MAX": ends.min}.get(aggregate, 0)
    votes = np.full((len(table.feature), count), idle, table.dtype)
    for leaf, target, weight in zip(leaves, targets, weights, strict=True):
        is_sum = aggregate in ("SUM", "AVERAGE")
        votes[leaf, target] = votes[leaf, target] + weight if is_sum else weight
    return votes


def _evaluated(
    b: Builder,
    node: Call,
    x: Value,
    table: TreeTable,
    roots: Sequence[int],
    votes: Array,
    aggregate: str,
) -> Value:
    """Walk from the roots for as many levels as the deepest tree has; leaves stay in place."""
    depth = table.depth(node, roots)
    place = b.expand(b.constant(np.array([roots], np.int64)), [x.dims[0], len(roots)])
    for _ in range(depth):
        place = _step(b, x, table, place)
    reached = b.make(GatherOp, b.constant(votes), place, axis=0)
    fn = {"MIN": "min", "MAX": "max"}.get(aggregate, "sum")
    made = b.reduce(fn, reached, [1])
    return b.map("div", made, len(roots)) if aggregate == "AVERAGE" else made


def _step(b: Builder, x: Value, table: TreeTable, place: Value) -> Value:
    def looked_up(column: Sequence[int]) -> Value:
        return b.make(GatherOp, b.constant(np.array(column, np.int64)), place, axis=0)

    value = b.make(GatherElementsOp, x, looked_up(table.feature), axis=1)
    split = b.make(GatherOp, b.constant(np.array(table.split, table.dtype)), place, axis=0)
    chosen = b.map(
        "where", b.map("le", value, split), looked_up(table.below), looked_up(table.above)
    )
    if not table.asks_for_nan:
        return chosen
    return b.map("where", b.map("is_nan", value), looked_up(table.missing), chosen)


def _children(node: Call, ids: str, leaves: str, inner: int) -> list[int]:
    """Places of children: leaves stand after the inner nodes."""
    places, are_leaves = _listed(node, node.integers(ids), inner), node.integers(leaves)
    flags = _listed(node, are_leaves, inner)
    return [
        (p + inner if leaf else p) if p >= 0 else -1 for p, leaf in zip(places, flags, strict=True)
    ]


def _members(node: Call) -> Iterator[list[float]]:
    """Sets of values, one after the other, each ended by a NaN."""
    values = (
        node.tensor("membership_values").array if node.has("membership_values") else np.zeros(0)
    )
    ends = np.flatnonzero(np.isnan(values)).tolist()
    starts = [0, *(end + 1 for end in ends[:-1])]
    return iter([values[s:e].tolist() for s, e in zip(starts, ends, strict=False)])


def _reals(node: Call, name: str) -> Array:
    if node.has(f"{name}_as_tensor"):
        return node.tensor(f"{name}_as_tensor").array.reshape(-1)
    return np.array(node.reals(name), np.float32)


def _listed(node: Call, values: Sequence[T], count: int) -> Sequence[T]:
    """``values``, of which there is one for each of ``count`` nodes."""
    if len(values) != count:
        node.invalid("lists of nodes differ in length", ("lengths", (len(values), count)))
    return values


def _within(node: Call, name: str, default: int, count: int) -> int:
    value = node.integer(name, default)
    if not 0 <= value < count:
        node.invalid(f"attribute {name!r} is out of range", (name, value))
    return value
