"""Simplify: fold, canonicalise, drop what is dead, recompose what exporters take apart."""
