"""The program around kernels, in C: what a model takes and gives, its memory, and its steps."""
