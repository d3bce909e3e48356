"""Calibrate: run a module over sample inputs, and turn what was seen into scales."""
