"""ONNX decoders with past keys and values as inputs: their cache becomes pages of a session."""

# torch does not say all of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

import tapeout
from tapeout.ir.errors import CompileError

from .small import ARCHITECTURES, VOCABULARY, Array, greedy, greedy_by_torch, prompt

NEW = 64
BATCH, TOKENS, PAST = 2, 3, 5
"""Sizes that a model is traced with."""


class Step(torch.nn.Module):
    """A step of generation as exporters have it: past keys and values in, grown ones out."""

    def __init__(self, model: Any, positions: bool) -> None:
        super().__init__()
        self.model, self.positions = model, positions

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        *past: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Logits, and the grown cache."""
        cache = transformers.DynamicCache()
        for i in range(0, len(past), 2):
            cache.update(past[i], past[i + 1], i // 2)
        made = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": position_ids} if self.positions else {}),
        )
        grown = [x for layer in made.past_key_values.layers for x in (layer.keys, layer.values)]
        return made.logits, *grown


def exported(
    model: Any, path: Path, *, scripted: bool, positions: bool, past_tokens: int = PAST
) -> Path:
    """Write a model as ``torch.onnx`` does, by tracing (as Optimum) or by ``torch.export``.

    Of no ``past_tokens`` it is the model of the first run, without past keys and values.
    """
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    depth = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = range(config.num_hidden_layers)
    past = [torch.randn(BATCH, heads, past_tokens, depth) for _ in layers for _ in "kv"]
    past = past if past_tokens else []
    args = (
        torch.randint(1, VOCABULARY, (BATCH, TOKENS)),
        torch.ones(BATCH, past_tokens + TOKENS, dtype=torch.long),
        torch.arange(past_tokens, past_tokens + TOKENS)[None].repeat(BATCH, 1),
        *past,
    )
    sides = [f"{i}.{kind}" for i in layers for kind in ("key", "value")]
    names = ["input_ids", "attention_mask", "position_ids"]
    given: dict[str, Any] = {
        "input_names": [*names, *(f"past_key_values.{s}" for s in sides if past)],
        "output_names": ["logits", *(f"present.{s}" for s in sides)],
    }
    axes = [{0: "batch", 1: "length"}, {0: "batch", 1: "seen"}, {0: "batch", 1: "length"}]
    if scripted:
        grown = [{0: "batch", 2: "past"} for _ in past]
        given["dynamic_axes"] = dict(zip(given["input_names"], [*axes, *grown], strict=True))
        given |= {"dynamo": False, "opset_version": 18}
    else:
        some = torch.export.Dim.DYNAMIC
        shapes = {n: dict.fromkeys((0, 1), some) for n in names}
        given["dynamic_shapes"] = {**shapes, "past": tuple({0: some, 2: some} for _ in past)}
        given |= {"dynamo": True, "external_data": False, "verbose": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.onnx.export(Step(model, positions).eval(), args, str(path), **given)
        logging.disable(logging.NOTSET)
    return path


@pytest.mark.parametrize(
    ("name", "scripted", "positions"),
    [("qwen3", False, True), ("mistral", True, False), ("gpt2", True, True)],
)
def test_greedy_tokens_are_those_of_transformers(
    name: str, scripted: bool, positions: bool, tmp_path: Path
) -> None:
    model = ARCHITECTURES[name]()
    path = exported(model, tmp_path / "model.onnx", scripted=scripted, positions=positions)
    program = tapeout.load(tapeout.compile(path, output=tmp_path / "model.tapeout"), threads=2)
    for length in (1, 7, 100):
        want, logits = greedy_by_torch(model, prompt(length), NEW)
        session = program.decoding(max_length=length + NEW)
        assert greedy(session, prompt(length), NEW) == want[length:].tolist()
        session.reset()
        (have,) = session.verify([want])
        np.testing.assert_allclose(have, logits, atol=1e-3)
    # Tokens of several sequences stand in one run, so none may see the place of another.
    prompts = [prompt(n) for n in (3, 70)]
    together = program.decoding(batch=2, max_length=80).prefill(prompts)
    for logits, tokens in zip(together, prompts, strict=True):
        alone = program.decoding(max_length=80).prefill(tokens)
        np.testing.assert_array_equal(logits, alone[0])
    # Where windows are not short, the tokens of a run may be a tree.
    alone, session = (program.decoding(max_length=80) for _ in range(2))
    assert session.trees == (name != "mistral")
    if session.trees:
        for each in (alone, session):
            each.prefill(prompt(63))
        (want,), (have,) = alone.verify([[3, 5]]), session.verify([[3, 4, 5]], [[-1, -1, 0]])
        np.testing.assert_allclose(have[[0, 2]], want, atol=1e-4)
        session.keep([0, 2])
        np.testing.assert_allclose(session.decode([6]), alone.decode([6]), atol=1e-4)


def merged(first: Path, later: Path) -> onnx.ModelProto:
    """Two exports of a decoder under one ``If``, as Optimum merges them."""
    graphs: list[onnx.GraphProto] = []
    for prefix, path in (("first_", first), ("later_", later)):
        model = onnx.load(path)
        named = onnx.compose.add_prefix(model, prefix, rename_inputs=False)
        graphs.append(named.graph)
    source = onnx.load(later)
    inputs = [*source.graph.input]
    for graph in graphs:
        del graph.input[:]
    chosen = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    outputs = [output.name for output in source.graph.output]
    node = helper.make_node(
        "If", [chosen.name], outputs, then_branch=graphs[1], else_branch=graphs[0]
    )
    graph = helper.make_graph([node], "merged", [*inputs, chosen], [*source.graph.output])
    return helper.make_model(graph, opset_imports=source.opset_import, ir_version=10)


def gpt2_exports(folder: Path, seed: int | None = None) -> tuple[Path, Path]:
    """A small GPT-2 for the first run, with other weights for a ``seed``, and for later ones."""
    model, how = ARCHITECTURES["gpt2"](), {"scripted": True, "positions": True}
    later = exported(model, folder / "later.onnx", **how)
    if seed is not None:
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.transformer.h[1].mlp.c_fc.weight, std=0.1)
    return exported(model, folder / "first.onnx", **how, past_tokens=0), later


def test_a_merged_decoder_is_the_one_that_continues_a_past(tmp_path: Path) -> None:
    first, later = gpt2_exports(tmp_path)
    made = [
        tapeout.compile(model, output=tmp_path / f"{name}.tapeout")
        for name, model in (("merged", merged(first, later)), ("later", later))
    ]
    have, want = (tapeout.load(path).decoding(max_length=80) for path in made)
    np.testing.assert_array_equal(have.prefill(prompt(70)), want.prefill(prompt(70)))
    for token in (1, 2, 3):
        np.testing.assert_array_equal(have.decode([token]), want.decode([token]))


def test_a_merged_decoder_of_two_models_is_refused(tmp_path: Path) -> None:
    model = merged(*gpt2_exports(tmp_path, seed=1))
    with pytest.raises(CompileError, match="graph for the first run") as caught:
        tapeout.compile(model, output=tmp_path / "a.tapeout")
    assert caught.value.code == "E0408"
    # Both graphs stay where nothing is kept in pages.
    path = tapeout.compile(model, output=tmp_path / "a.tapeout", dims={"batch": 1}, cache="inputs")
    names = [port.name for port in tapeout.load(path).inputs]
    assert "use_cache_branch" in names


def test_a_merged_decoder_has_heads_of_one_size(tmp_path: Path) -> None:
    model = merged(*gpt2_exports(tmp_path))
    for past in model.graph.input[3:-1]:
        past.type.tensor_type.shape.dim[3].dim_param = "depth"
    with pytest.raises(CompileError, match="is open") as caught:
        tapeout.compile(model, output=tmp_path / "a.tapeout")
    assert caught.value.code == "E0408"


HEADS, GROUPS, DEPTH = 4, 2, 16
WIDTH = HEADS * DEPTH


def grouped(past: str = "past_key_values.0", causal: bool = True) -> onnx.ModelProto:
    """One layer as the model builder of ONNX Runtime's GenAI writes it, rotary tables inside.

    Not ``causal``: attention as MatMul and Softmax that hides nothing.
    """
    random = np.random.default_rng(0)
    angles = np.arange(256)[:, None] * 0.1 ** np.arange(DEPTH // 2)
    fixed = {
        "table": random.standard_normal((VOCABULARY, WIDTH)),
        "qkv": random.standard_normal((WIDTH, WIDTH + 2 * GROUPS * DEPTH)) / 8,
        "head": random.standard_normal((WIDTH, VOCABULARY)) / 8,
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    initializers = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in fixed.items()]
    initializers.append(numpy_helper.from_array(np.array([1]), "one"))
    sides = [(f"{past}.{kind}", f"present.0.{kind}") for kind in ("key", "value")]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "qkv"], ["packed"]),
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["count"], keepdims=0),
        helper.make_node("Sub", ["count", "one"], ["last64"]),
        helper.make_node("Cast", ["last64"], ["last"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["total64"], start=1),
        helper.make_node("Squeeze", ["total64"], ["total1"]),
        helper.make_node("Cast", ["total1"], ["total"], to=TensorProto.INT32),
        helper.make_node(
            "GroupQueryAttention",
            ["packed", "", "", sides[0][0], sides[1][0], "last", "total", "cos", "sin"],
            ["mixed", sides[0][1], sides[1][1]],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=GROUPS,
            do_rotary=1,
            local_window_size=40,
        ),
        helper.make_node("MatMul", ["mixed", "head"], ["logits"]),
    ]
    if not causal:
        nodes[-2:-1] = [
            *(helper.make_node("Concat", [a, "new"], [b], axis=2) for a, b in sides),
            helper.make_node("Transpose", [sides[0][1]], ["turned"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["new", "turned"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probable"]),
            helper.make_node("MatMul", ["probable", sides[1][1]], ["heads"]),
            helper.make_node("Transpose", ["heads"], ["by_token"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["by_token", "flat"], ["mixed"]),
        ]
        nodes[1:2] = [
            helper.make_node("Reshape", ["x", "split"], ["parts"]),
            helper.make_node("Transpose", ["parts"], ["new"], perm=[0, 2, 1, 3]),
        ]
        initializers += [
            numpy_helper.from_array(np.array([0, 0, HEADS, DEPTH]), "split"),
            numpy_helper.from_array(np.array([0, 0, WIDTH]), "flat"),
        ]
    heads = GROUPS if causal else HEADS
    cache = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", heads, "past", "depth"])
        for n, _ in sides
    ]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "seen"]),
            *cache,
        ],
        [onnx.ValueInfoProto(name=n) for n in ("logits", *(b for _, b in sides))],
        initializers,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """With tokens that have one axis alone."""
    del model.graph.input[0].type.tensor_type.shape.dim[0]
    return model


def test_grouped_attention_of_genai_agrees_with_onnxruntime(tmp_path: Path) -> None:
    # ONNX Runtime has no type stubs.
    ort: Any = importlib.import_module("onnxruntime")
    peer = ort.InferenceSession(grouped().SerializeToString(), providers=["CPUExecutionProvider"])
    tokens = prompt(90)
    empty = np.zeros((1, GROUPS, 0, DEPTH), np.float32)
    want: Array = peer.run(
        ["logits"],
        {
            "input_ids": tokens[None],
            "attention_mask": np.ones((1, len(tokens)), np.int64),
            **{f"past_key_values.0.{kind}": empty for kind in ("key", "value")},
        },
    )[0][0]
    program = tapeout.load(tapeout.compile(grouped(), output=tmp_path / "a.tapeout"))
    session = program.decoding(max_length=len(tokens))
    first = session.verify([tokens[:50]])[0]
    rest = [session.decode([t])[0] for t in tokens[50:]]
    np.testing.assert_allclose(np.concatenate([first, rest]), want, atol=1e-4)


def test_the_cache_can_stay_inputs_and_outputs(tmp_path: Path) -> None:
    dims = {"batch": 1}
    path = tapeout.compile(grouped(), output=tmp_path / "a.tapeout", dims=dims, cache="inputs")
    program = tapeout.load(path)
    assert [port.name for port in program.inputs][2:] == [
        "past_key_values.0.key",
        "past_key_values.0.value",
    ]
    assert [port.name for port in program.outputs][1:] == ["present.0.key", "present.0.value"]


@pytest.mark.parametrize("most", [1, 16])
def test_the_range_of_tokens_is_the_files(most: int, tmp_path: Path) -> None:
    tokens = prompt(50)
    texts: list[Array] = []
    for number, dims in enumerate(({}, {"length": most if most == 1 else (1, most)})):
        path = tapeout.compile(grouped(), output=tmp_path / f"{number}.tapeout", dims=dims)
        session = tapeout.load(path).decoding(max_length=64)
        assert session.decoder.most == (most if dims else 2048)
        texts.append(session.prefill(tokens)[0])
        assert session.lengths == (50,)
    np.testing.assert_array_equal(*texts)


@pytest.mark.parametrize(
    ("model", "given", "code", "says"),
    [
        (grouped(causal=False), {}, "E0408", "neither causal nor a window"),
        (grouped(past="cached"), {"cache": "pages"}, "E0408", "past"),
        (grouped(), {"dims": {"batch": 2}}, "E0103", "--cache inputs"),
        (_flat(grouped()), {"cache": "pages"}, "E0408", "no cache"),
    ],
)
def test_what_cannot_be_paged_is_refused(
    model: onnx.ModelProto, given: dict[str, Any], code: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(CompileError, match=says) as caught:
        tapeout.compile(model, output=tmp_path / "a.tapeout", **given)
    assert caught.value.code == code
