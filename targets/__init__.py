"""What a program becomes: one folder per target."""
