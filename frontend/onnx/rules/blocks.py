"""Blocks of pixels moved between depth and space."""

from tapeout.frontend.onnx.builder import Builder
from tapeout.frontend.onnx.call import Call
from tapeout.frontend.onnx.registry import rule
from tapeout.frontend.onnx.value import Value
from tapeout.ir.expr import Expr


@rule("DepthToSpace")
def depth_to_space(b: Builder, node: Call, x: Value) -> Value:
    """``[N, C*k*k, H, W]`` to ``[N, C, H*k, W*k]``; in mode CRD the block is innermost."""
    n, c, h, w = _image(node, x)
    k = _block(node)
    if node.text("mode", "DCR") == "DCR":
        split, perm = [n, k, k, c // (k * k), h, w], (0, 3, 4, 1, 5, 2)
    else:
        split, perm = [n, c // (k * k), k, k, h, w], (0, 1, 4, 2, 5, 3)
    moved = b.transpose(b.reshape(x, split), perm)
    return b.reshape(moved, [n, c // (k * k), h * k, w * k])


@rule("SpaceToDepth")
def space_to_depth(b: Builder, node: Call, x: Value) -> Value:
    """``[N, C, H*k, W*k]`` to ``[N, k*k*C, H, W]``; in mode CRD ``[N, C*k*k, H, W]``."""
    n, c, h, w = _image(node, x)
    k = _block(node)
    perm = (0, 3, 5, 1, 2, 4) if node.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = b.transpose(b.reshape(x, [n, c, h // k, k, w // k, k]), perm)
    return b.reshape(moved, [n, c * k * k, h // k, w // k])


def _image(node: Call, x: Value) -> tuple[Expr, ...]:
    if x.rank != 4:
        node.invalid("the input is not [N, C, H, W]", ("rank", x.rank))
    return x.dims


def _block(node: Call) -> int:
    size = node.integer("blocksize")
    if size < 1:
        node.invalid("blocksize is not positive", ("blocksize", size))
    return size
