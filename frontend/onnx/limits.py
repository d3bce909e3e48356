"""How large a model file may be in each respect before it is refused unread."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Caps on a model file; the defaults stand well above every published model.

    They bound what a few hostile bytes can cost: time and memory stay in proportion to the
    file, and nothing later in the compiler recurses or multiplies without bound.
    """

    file_bytes: int = 2**31 - 1
    """Bytes of the model file itself; protobuf cannot hold more. External data is not counted."""

    fields: int = 2_000_000
    """Encoded protobuf fields; arrays saved as raw data count as one."""

    messages: int = 1_000_000
    """Protobuf messages: nodes, attributes, tensors, types and the like together."""

    message_depth: int = 90
    """Protobuf messages inside each other; protobuf itself stops at 100."""

    nodes: int = 250_000
    """Nodes in all graphs and functions, also after the functions are inlined."""

    nesting: int = 16
    """Graphs inside each other (bodies of If, Loop, Scan), also after inlining."""

    rank: int = 32
    """Dimensions of one tensor."""

    text_bytes: int = 65_535
    """UTF-8 bytes of one name or other text that the compiler reads."""

    dense_bytes: int = 2**30
    """Bytes of one sparse tensor once it is dense: nothing else grows as it is read."""


DEFAULT_LIMITS = Limits()
