"""Rules of :mod:`tapeout.passes.tile.pull` for operators that are more than index arithmetic."""
