"""The long-lived process of one engine of language models; it serves as ``worker.py`` does.

{"do": "load", "shape", "threads", "context"}  ->  {"path", "decode_bytes", "version"}
{"do": "logits", "file", "prompt", "steps"}  ->  {}  writes ``[1 + steps, V]`` logits: of the
                                prompt's last token, and of each that is decoded
{"do": "turn", "prompt", "steps", "prefill"}  ->  {"decode", "prefill"}  samples of
                                (clock, CPU) seconds: of each decoded token after a prompt, and
                                of a prefill
"""

import sys
from typing import Any

import numpy as np
from llm_engines import engine
from llm_shapes import Shape, tokens
from worker import serve, timed


class Worker:
    """One engine, one loaded model. Tokens are given, not drawn: all engines get the same."""

    def __init__(self, name: str) -> None:
        self.engine = engine(name)

    def load(self, shape: dict[str, int], threads: int, context: int) -> dict[str, Any]:
        self.shape = Shape(**shape)
        path = self.engine.prepare(self.shape)
        self.session = self.engine.load(path, threads, context)
        size, version = self.engine.decode_bytes(path), self.engine.version()
        return {"path": str(path), "decode_bytes": size, "version": version}

    def logits(self, file: str, prompt: int, steps: int) -> dict[str, Any]:
        given = tokens(self.shape, prompt + steps)
        rows = [self.session.prefill(given[:prompt])]
        rows += [self.session.decode(int(token)) for token in given[prompt:]]
        np.save(file, np.stack(rows))
        return {}

    def turn(self, prompt: int, steps: int, prefill: int) -> dict[str, Any]:
        given = tokens(self.shape, max(prompt + steps, prefill))
        session = self.session
        session.prefill(given[:prompt])
        steps_given = given[prompt : prompt + steps].tolist()
        decode = [timed(lambda token=token: session.decode(token)) for token in steps_given]
        return {"decode": decode, "prefill": [timed(lambda: session.prefill(given[:prefill]))]}


if __name__ == "__main__":
    name, cpus = sys.argv[1:]
    serve(lambda: Worker(name), cpus)
