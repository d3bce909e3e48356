"""The ``nn`` operators, one class each, grouped by family."""
