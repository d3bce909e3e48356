"""Strategies of machines that compute on blocks, such as GPUs: tiles of powers of two, masked."""
