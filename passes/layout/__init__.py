"""Layout: in which order axes lie in memory, decided over the whole graph."""
