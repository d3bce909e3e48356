"""What runs an artifact; needs numpy and nothing else."""
