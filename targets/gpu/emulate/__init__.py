"""A driver that is none: programs for GPUs run on the CPU, by the launcher and code that ship."""
