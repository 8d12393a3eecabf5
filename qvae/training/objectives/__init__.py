"""What is optimised and by which optimizers: one objective, one file."""
