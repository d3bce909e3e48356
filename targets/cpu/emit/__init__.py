"""From tile programs to C: expressions, memory accesses, scalar functions, kernels, the model."""
