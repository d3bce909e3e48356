"""What language models keep from token to token: attention, convolutions and scans on states."""

from __future__ import annotations

from xdsl.ir import SSAValue

from tapeout.frontend.aten.builder import Builder
from tapeout.frontend.aten.call import Call
from tapeout.frontend.aten.registry import rule
from tapeout.ir import decoding
from tapeout.ir.decoding import by_token
from tapeout.ir.ops.index import GatherOp
from tapeout.ir.ops.recurrence import StateConvOp, StateScanOp
from tapeout.ir.types import spec


@rule("tapeout.attend")
def attend(
    b: Builder,
    call: Call,
    q: SSAValue,
    k: SSAValue,
    v: SSAValue,
    layer: int,
    scale: float,
    softcap: float,
    window: int,
) -> SSAValue:
    """Write keys and values of all tokens to the cache, then attend to it token by token."""
    cache = b.cache
    assert cache is not None, "a graph that attends has a cache"
    tokens = (by_token(b, q), by_token(b, k), by_token(b, v))
    y = decoding.attend(b, cache, layer, tokens, scale=scale, softcap=softcap, window=window)
    return b.reshape(y, call.output.dims)


@rule("tapeout.stay")
def stay(b: Builder, call: Call, x: SSAValue, places: SSAValue) -> SSAValue:
    """Tokens that stay in the program: from here on, what attends knows of these alone."""
    cache = b.cache
    assert cache is not None, "a graph whose tokens leave has a cache"
    for name in ("positions", "slots", "sequence", "end", "tree"):
        if name in cache:
            cache[name] = b.op(GatherOp, cache[name], places, axis=0)
    return b.op(GatherOp, x, places, axis=1)


@rule("tapeout.recall")
def recall(b: Builder, call: Call, x: SSAValue, weight: SSAValue, layer: int) -> SSAValue:
    """A causal convolution of each channel, which recalls the last tokens of earlier runs."""
    cache = b.cache
    assert cache is not None, "a graph that recalls has a cache"
    _, channels, tokens = spec(x).dims
    x = b.transpose(b.reshape(x, (channels, tokens)), (1, 0))
    name, spans = f"recall.{layer}", (cache["start"], cache["stop"])
    y, cache[name] = b.many(StateConvOp, cache[name], *spans, x, b.transpose(weight, (1, 0)))
    return b.reshape(b.transpose(y, (1, 0)), call.output.dims)


@rule("tapeout.scan")
def scan(
    b: Builder,
    call: Call,
    x: SSAValue,
    decay: SSAValue,
    inward: SSAValue,
    outward: SSAValue,
    layer: int,
) -> SSAValue:
    """The scan of a state-space layer, from the state that earlier runs left."""
    cache = b.cache
    assert cache is not None, "a graph that scans has a cache"
    given = [b.reshape(v, spec(v).dims[1:]) for v in (x, decay, inward, outward)]
    name, spans = f"scan.{layer}", (cache["start"], cache["stop"])
    y, cache[name] = b.many(StateScanOp, cache[name], *spans, *given)
    return b.reshape(y, call.output.dims)
