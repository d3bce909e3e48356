"""Narrower numbers: which values become integers, and how products of them are computed."""
