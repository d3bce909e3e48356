"""Causal language models of ``transformers`` as programs with a paged key-value cache."""
