"""What ails the training of a model, and what helps: gradients that vanish or explode."""
