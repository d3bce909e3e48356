"""A format for every layer under a budget of accuracy: see README.md."""
