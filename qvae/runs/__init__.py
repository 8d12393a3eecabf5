"""A run's folder and the parts it is made of."""
