"""Tile programs as Triton's Python."""
