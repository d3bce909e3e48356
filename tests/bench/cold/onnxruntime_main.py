"""Cold start with ONNX Runtime: load the model, encode one short sentence, print the result."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import os
import sys

import numpy as np
import onnxruntime


def main(model: str, tokens: str) -> None:
    """Print the first eight values of the sentence's embedding."""
    inputs = {file[:-4]: np.load(f"{tokens}/{file}") for file in os.listdir(tokens)}
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    embedding = np.asarray(session.run(["sentence_embedding"], inputs)[0])
    print(*(f"{x:.5f}" for x in embedding[0, :8]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
