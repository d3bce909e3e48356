"""The passes in their order, stage by stage, and how the command line names them."""

from collections.abc import Mapping

from xdsl.utils.arg_spec import parse_pipeline as parse_specs
from xdsl.utils.exceptions import ArgSpecParseError

from tapeout.ir.errors import CompileError
from tapeout.passes.cache.page_caches import PageCaches
from tapeout.passes.fuse.outline import Fuse
from tapeout.passes.layout.channels_last import ChannelsLast
from tapeout.passes.layout.explicit_padding import ExplicitPadding
from tapeout.passes.layout.phases import SplitPhases
from tapeout.passes.manager import Pass
from tapeout.passes.quantize.grouped_products import GroupedProducts
from tapeout.passes.quantize.integer_products import IntegerProducts
from tapeout.passes.quantize.plain import PlainNumbers
from tapeout.passes.quantize.quantize_layers import QuantizeLayers
from tapeout.passes.quantize.requantize import Requantize
from tapeout.passes.simplify.activations import RecomposeActivations
from tapeout.passes.simplify.affine import FoldAffine
from tapeout.passes.simplify.attention import RecomposeAttention
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.common import CommonSubexpressions
from tapeout.passes.simplify.dead import DropDead
from tapeout.passes.simplify.experts import RecomposeExperts
from tapeout.passes.simplify.fold import Fold
from tapeout.passes.simplify.norms import RecomposeNorms
from tapeout.passes.simplify.rotary import RecomposeRotary
from tapeout.passes.sparsify.encode_products import EncodeProducts
from tapeout.passes.sparsify.sparsify_layers import SparsifyLayers

SIMPLIFY: tuple[Pass, ...] = (
    DropDead(),
    Fold(),
    Canonicalise(),
    CommonSubexpressions(),
    RecomposeActivations(),
    RecomposeNorms(),
    RecomposeRotary(),
    RecomposeExperts(),
    FoldAffine(),
    RecomposeAttention(),
    Fold(),
    Canonicalise(),
    CommonSubexpressions(),
    DropDead(),
)
QUANTIZE: tuple[Pass, ...] = (
    CommonSubexpressions(),
    GroupedProducts(),
    IntegerProducts(),
    PlainNumbers(),
    Fold(),
    Requantize(),
    FoldAffine(),
    Canonicalise(),
    CommonSubexpressions(),
    DropDead(),
)
SPARSIFY: tuple[Pass, ...] = (EncodeProducts(), DropDead())
LAYOUT: tuple[Pass, ...] = (
    SplitPhases(),
    ChannelsLast(),
    Canonicalise(),
    CommonSubexpressions(),
    DropDead(),
    ExplicitPadding(),
)
KERNELS: tuple[Pass, ...] = (Fuse(),)

ON_REQUEST: tuple[Pass, ...] = (PageCaches(), SparsifyLayers(), QuantizeLayers())
"""Passes that run where a user asks for them, in front of the stage ``quantize``."""

PIPELINE: Mapping[str, tuple[Pass, ...]] = {
    "simplify": SIMPLIFY,
    "quantize": QUANTIZE,
    "sparsify": SPARSIFY,
    "layout": LAYOUT,
    "kernels": KERNELS,
}


def pass_classes() -> Mapping[str, type[Pass]]:
    """Every pass class by name: those that stand in a stage, and those on request."""
    stages = (*PIPELINE.values(), ON_REQUEST)
    return {each.name: type(each) for stage in stages for each in stage}


def passes(*requested: Pass) -> tuple[Pass, ...]:
    """What a model goes through before a target takes it.

    A requested pass stands for the one of its name; those on request go in front of ``quantize``.
    """
    named = {each.name: each for each in requested}
    before = {"quantize": tuple(named[p.name] for p in ON_REQUEST if p.name in named)}
    stages = ((*before.get(name, ()), *PIPELINE[name]) for name in PIPELINE)
    return tuple(named.get(each.name, each) for stage in stages for each in stage)


def parse_pipeline(text: str) -> tuple[Pass, ...]:
    """Passes from ``"canonicalise,fold{limit=24}"``; a stage's name stands for its passes.

    Errors: E0101 for an unknown pass or option and for text that is no pipeline.
    """
    passes: list[Pass] = []
    try:
        for spec in parse_specs(text):
            if spec.name in PIPELINE and not spec.parameters:
                passes.extend(PIPELINE[spec.name])
            elif spec.name in pass_classes():
                passes.append(pass_classes()[spec.name].from_spec(spec))
            else:
                raise _unknown(spec.name)
    except (ArgSpecParseError, ValueError) as error:
        raise CompileError("E0101", "the pass pipeline is not valid", [("at", error)]) from error
    return tuple(passes)


def _unknown(name: str) -> CompileError:
    known = ", ".join(sorted([*PIPELINE, *pass_classes()]))
    return CompileError(
        "E0101",
        f"there is no pass '{name}'",
        [("where", "-p"), ("known", known)],
        "name passes or stages, separated by commas",
    )
