"""Shared by the tests of the IR."""

from hypothesis import settings

# No example database: a run must not depend on, or litter, the tree it runs in.
settings.register_profile("tree", database=None, deadline=None)
settings.load_profile("tree")
