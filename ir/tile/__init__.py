"""Tile programs: a kernel as loops over tiles that move through named memory levels."""
