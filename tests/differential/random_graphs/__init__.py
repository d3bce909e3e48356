"""Random ``nn`` graphs, and the comparison of a compiled one with the evaluator."""

from random_graphs import codes, moves
from random_graphs.compare import Mismatch, build, check, difference
from random_graphs.control import FLOW
from random_graphs.draw import Case, draw

MOVES = (*moves.MOVES, *codes.MOVES)
"""Kinds of operators; those that stand twice come twice as often."""

__all__ = ["FLOW", "MOVES", "Case", "Mismatch", "build", "check", "difference", "draw"]
