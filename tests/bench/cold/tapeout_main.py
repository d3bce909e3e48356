"""Cold start with this project from Python: load the artifact, encode one short sentence."""

import os
import sys

import numpy as np

import tapeout


def main(artifact: str, tokens: str) -> None:
    """Print the first eight values of the sentence's embedding."""
    inputs = {file[:-4]: np.load(f"{tokens}/{file}") for file in os.listdir(tokens)}
    embedding = tapeout.load(artifact).run(inputs)["sentence_embedding"]
    print(*(f"{x:.5f}" for x in embedding[0, :8]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
