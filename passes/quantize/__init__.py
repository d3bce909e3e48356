"""Fewer bits for a weight: formats, scales, codes, and what a user says about them."""
