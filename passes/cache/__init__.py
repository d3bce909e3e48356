"""Keys and values of earlier tokens, moved from inputs and outputs into states."""
