"""What may change: every pass, grouped by concern."""
