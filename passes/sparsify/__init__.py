"""Fewer weights: masks, the patterns that weights already have, and lossless encodings."""
