"""Training: the objective, the loop, its progress display and its checkpoints."""
