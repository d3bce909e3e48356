"""``ai.onnx.ml`` on numbers: feature preparation and linear models."""

import numpy as np

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.rules.compose import all_given, insert_axis, one_of
from tapeout.frontend.onnx.value import Array, Value
from tapeout.ir.dtypes import boolean, f32, i64
from tapeout.ir.ops.contract import MatmulOp
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.norm import SoftmaxOp
from tapeout.ir.ops.reduce import ArgReduceOp

DOMAIN = "ai.onnx.ml"
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@rule("ArrayFeatureExtractor", domain=DOMAIN)
def array_feature_extractor(b: Builder, node: Call, x: Value, places: Value) -> Value:
    """The named columns of the last axis; a vector is one row."""
    rows = insert_axis(b, x, 0) if x.rank == 1 else x
    return b.make(GatherOp, rows, b.reshape(places, [places.spec.size]), axis=rows.rank - 1)


@rule("Binarizer", domain=DOMAIN)
def binarizer(b: Builder, node: Call, x: Value) -> Value:
    """1 above ``threshold``, else 0."""
    return b.convert(b.map("gt", x, node.real("threshold")), x.dtype)


@rule("Scaler", domain=DOMAIN)
def scaler(b: Builder, node: Call, x: Value) -> Value:
    """``(x - offset) * scale``, one number for each feature or one for all."""
    offset, scale = _parameter(b, node, "offset", 0.0), _parameter(b, node, "scale", 1.0)
    return b.map("mul", b.map("sub", b.convert(x, f32), offset), scale)


@rule("Imputer", domain=DOMAIN)
def imputer(b: Builder, node: Call, x: Value) -> Value:
    """Elements equal to one value replaced; NaN equals NaN here."""
    if x.dtype.is_float:
        wanted = node.real("replaced_value_float")
        with_ = np.array(node.reals("imputed_value_floats"))
        is_it = b.map("is_nan", x) if np.isnan(wanted) else b.map("eq", x, wanted)
    else:
        with_ = np.array(node.integers("imputed_value_int64s"))
        is_it = b.map("eq", x, node.integer("replaced_value_int64"))
    if not with_.size:
        node.invalid("the imputed value is missing or of another type than the input")
    return b.map("where", is_it, b.constant(with_.astype(x.dtype.numpy)), x)


@rule("Normalizer", domain=DOMAIN)
def normalizer(b: Builder, node: Call, x: Value) -> Value:
    """Each row over its maximum, its sum, or its length; a row of zeros stays so."""
    norm = one_of(node, "norm", "MAX", ("MAX", "L1", "L2"))
    wide = b.convert(x, f32)
    size = b.map("abs", wide)
    if norm == "MAX":
        divisor = b.reduce("max", size, [-1], keepdims=True)
    elif norm == "L1":
        divisor = b.reduce("sum", size, [-1], keepdims=True)
    else:
        squares = b.reduce("sum", b.map("mul", wide, wide), [-1], keepdims=True)
        divisor = b.map("sqrt", squares)
    return b.map("div", wide, b.map("max", divisor, 1e-30))


@rule("FeatureVectorizer", domain=DOMAIN)
def feature_vectorizer(b: Builder, node: Call, *given: Value | None) -> Value:
    """All features side by side as f32."""
    rows = [insert_axis(b, x, 0) if x.rank == 1 else x for x in all_given(node, given)]
    return b.concat([b.convert(x, f32) for x in rows], 1)


@rule("OneHotEncoder", domain=DOMAIN)
def one_hot_encoder(b: Builder, node: Call, x: Value) -> Value:
    """A further axis with a 1 at the place of each element among ``cats_int64s``."""
    categories = np.array(node.integers("cats_int64s"), np.int64)
    if not categories.size:
        node.refuse("categories that are text", fix="encode text before the model")
    matches = b.map("eq", insert_axis(b, b.convert(x, i64), x.rank), b.constant(categories))
    return b.convert(matches, f32)


@rule("LabelEncoder", domain=DOMAIN, since=2)
def label_encoder(b: Builder, node: Call, x: Value) -> Value:
    """Numbers replaced by numbers, through pairs of keys and values; the last of equals wins."""
    keys = _table(node, "keys", x.dtype.numpy)
    values = _table(node, "values", None)
    if len(keys) != len(values):
        node.invalid("keys and values differ in number", ("keys", len(keys)))
    default = _default(node, values.dtype)
    pairs = b.map("eq", insert_axis(b, x, x.rank), b.constant(keys))
    if x.dtype.is_float:
        both = b.map("and", insert_axis(b, b.map("is_nan", x), x.rank), b.constant(np.isnan(keys)))
        pairs = b.map("or", pairs, both)
    place = b.make(ArgReduceOp, b.convert(pairs, i64), fn="max", axis=x.rank, last=True)
    found = b.make(GatherOp, b.constant(values), place, axis=0)
    known = b.reduce("any", pairs, [x.rank])
    assert known.dtype is boolean, "any of bools is a bool"
    return b.map("where", known, found, b.constant(default))


def _table(node: Call, side: str, dtype: np.dtype | None) -> Array:
    if node.has(f"{side}_tensor"):
        made = node.tensor(f"{side}_tensor").array.reshape(-1)
    elif node.has(f"{side}_int64s"):
        made = np.array(node.integers(f"{side}_int64s"), np.int64)
    elif node.has(f"{side}_floats"):
        made = np.array(node.reals(f"{side}_floats"), np.float32)
    else:
        node.refuse(f"{side} that are text", fix="encode text before the model")
    return made if dtype is None else made.astype(dtype)


def _default(node: Call, dtype: np.dtype) -> Array:
    if node.has("default_tensor"):
        return node.tensor("default_tensor").array.reshape(())
    if np.issubdtype(dtype, np.integer):
        return np.array(node.integer("default_int64", -1), dtype)
    return np.array(node.real("default_float", -0.0), dtype)


@rule("LinearRegressor", domain=DOMAIN)
def linear_regressor(b: Builder, node: Call, x: Value) -> Value:
    """``x @ coefficients^T + intercepts``."""
    scores = _linear(b, node, b.convert(x, f32), node.integer("targets", 1))
    return transformed(b, node, scores, node.text("post_transform", "NONE"))


@rule("LinearClassifier", domain=DOMAIN)
def linear_classifier(b: Builder, node: Call, x: Value) -> tuple[Value, Value]:
    """The label of the best score, and all scores; one score is for the second of two labels."""
    if node.has("classlabels_strings"):
        node.refuse("labels that are text", fix="map the labels after the model")
    labels = np.array(node.integers("classlabels_ints"), np.int64)
    if not labels.size:
        node.invalid("attribute 'classlabels_ints' is missing")
    intercepts = node.reals("intercepts")
    scores = _linear(b, node, b.convert(x, f32), len(intercepts) or len(labels))
    if scores.dims[1] == 1 and len(labels) == 2:
        scores = b.concat([b.map("neg", scores), scores], 1)
    if scores.dims[1] != len(labels):
        node.refuse("one score with one label", ("labels", labels.tolist()))
    made = transformed(b, node, scores, node.text("post_transform", "NONE"))
    return best_label(b, made, labels), made


def best_label(b: Builder, scores: Value, labels: Array) -> Value:
    """The label of the highest score of each row."""
    return b.make(GatherOp, b.constant(labels), b.make(ArgReduceOp, scores, fn="max", axis=1))


def transformed(b: Builder, node: Call, scores: Value, name: str) -> Value:
    """Scores after ``post_transform``."""
    if name not in TRANSFORMS:
        node.invalid("unknown 'post_transform'", ("it is", name), ("known", ", ".join(TRANSFORMS)))
    if name == "NONE":
        return scores
    if name == "SOFTMAX":
        return b.make(SoftmaxOp, scores, axis=1)
    if name == "LOGISTIC":
        return b.map("sigmoid", scores)
    node.refuse(f"post_transform {name}", fix="export the model with SOFTMAX or LOGISTIC")


def _linear(b: Builder, node: Call, x: Value, targets: int) -> Value:
    coefficients = np.array(node.reals("coefficients"), np.float32)
    intercepts = np.array(node.reals("intercepts") or [0.0] * max(targets, 0), np.float32)
    if targets < 1 or not coefficients.size or coefficients.size % targets:
        node.invalid(
            "the number of coefficients does not fit",
            ("coefficients", coefficients.size),
            ("targets", targets),
        )
    weights = b.constant(coefficients.reshape(targets, -1))
    product = b.make(MatmulOp, x, weights, transpose_b=True)
    return b.map("add", product, b.constant(intercepts))


def _parameter(b: Builder, node: Call, name: str, default: float) -> Value:
    return b.constant(np.array(node.reals(name) or [default], np.float32))
