"""The real models that the tests and the benchmarks run, and how each of them is made.

A family is one file with a ``RECIPES`` tuple; this tuple of families is the whole list.
"""

from . import bert, digits, gpt2, light, minilm, mobilenet, resnet, vit
from .recipe import Recipe

RECIPES: tuple[Recipe, ...] = (
    *resnet.RECIPES,
    *mobilenet.RECIPES,
    *vit.RECIPES,
    *bert.RECIPES,
    *minilm.RECIPES,
    *gpt2.RECIPES,
    *digits.RECIPES,
    *light.RECIPES,
)
