"""Cold start with this project from Python: load the artifact, encode one short sentence."""

import sys

import numpy as np

import tapeout


def main(artifact: str, tokens: str) -> None:
    """Print the first eight values of the sentence's embedding."""
    with np.load(tokens) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    embedding = tapeout.load(artifact).run(inputs)["sentence_embedding"]
    print(*(f"{x:.5f}" for x in embedding[0, :8]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
