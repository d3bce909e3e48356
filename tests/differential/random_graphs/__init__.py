"""Random ``nn`` graphs, and the comparison of a compiled one with the evaluator."""

from random_graphs.compare import DEVICES, Mismatch, check
from random_graphs.control import FLOW
from random_graphs.draw import Case, draw
from random_graphs.moves import MOVES

__all__ = ["DEVICES", "FLOW", "MOVES", "Case", "Mismatch", "check", "draw"]
