"""Data sets: where they are read from, what their values mean, and what a model is given of them."""
