"""Rows and latent bits as short files: entropy coding with bits-back, under a Boltzmann prior, the same on every machine."""
