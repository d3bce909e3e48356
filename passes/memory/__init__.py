"""Where values live: buffers, their lifetimes, and the arena that holds them."""
