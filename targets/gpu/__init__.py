"""The GPU target: Triton kernels, compiled ahead of time and checked without a GPU."""
