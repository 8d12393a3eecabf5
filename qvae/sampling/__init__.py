"""The sampler contract: what a backend must do, how it is found, and how good its samples are."""
