"""From operators to kernels: what runs together, and which kernels are the same."""
