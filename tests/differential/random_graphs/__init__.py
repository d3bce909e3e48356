"""Random ``nn`` graphs, and the comparison of a compiled one with the evaluator."""

from random_graphs.compare import Mismatch, build, check, difference
from random_graphs.control import FLOW
from random_graphs.draw import Case, draw
from random_graphs.moves import MOVES

__all__ = ["FLOW", "MOVES", "Case", "Mismatch", "build", "check", "difference", "draw"]
