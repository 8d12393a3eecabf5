"""Samplers and training measured, for `qvae benchmark` and `qvae samplers recommend`."""
