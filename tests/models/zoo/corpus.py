"""Real English text that every CPython carries: the language reference behind ``help()``.

``pydoc_data.topics`` is part of the standard library, so the text is the same on every machine
with the same version of Python.
"""

import pydoc_data.topics
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCES = (Path(__file__), Path(pydoc_data.topics.__file__))
"""What decides the text: recipes that read it are made again when one of these changes."""

BLOCK_BYTES = 4096
HELD_OUT_EVERY = 10


class Paragraph(NamedTuple):
    """A paragraph as it is laid out in its topic, line breaks and indentation included."""

    topic: str
    text: str


@cache
def paragraphs() -> Sequence[Paragraph]:
    """Return every paragraph once, in the order of the topics' names.

    Topics quote each other, so a fifth of the text occurs again: kept, it would be in the training
    and in the validation text.
    """
    topics: dict[str, str] = pydoc_data.topics.topics
    found: dict[str, Paragraph] = {}
    for topic, content in sorted(topics.items()):
        for text in re.split(r"\n\s*\n", content):
            words = " ".join(text.split())
            if words:
                found.setdefault(words, Paragraph(topic, text.strip("\n")))
    return list(found.values())


@cache
def split_text() -> tuple[bytes, bytes]:
    """Return the training and the validation text in UTF-8.

    The text is cut into blocks of 4 KiB, and every tenth is held out: all topics are in both.
    """
    text = "\n\n".join(paragraph.text for paragraph in paragraphs()).encode()
    blocks = [text[i : i + BLOCK_BYTES] for i in range(0, len(text), BLOCK_BYTES)]
    held_out = blocks[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    del blocks[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    return b"".join(blocks), b"".join(held_out)
