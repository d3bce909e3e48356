"""The CPU target: C with SIMD, one shared object per instruction set."""
