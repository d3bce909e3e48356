"""Hostile and malformed models: each a builder with what must come of it."""

from . import data, external, files, functions, names, operators, structure
from .base import AT_IMPORT, AT_LOAD, COMPILES, EITHER, MARKER, MODELS, Hostile

__all__ = [
    "AT_IMPORT",
    "AT_LOAD",
    "COMPILES",
    "EITHER",
    "MARKER",
    "MODELS",
    "Hostile",
    "data",
    "external",
    "files",
    "functions",
    "names",
    "operators",
    "structure",
]
