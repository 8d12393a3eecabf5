"""Measurements that tell a user which sampler to pick: on problems with a truth, in training, and on a prior of one's own."""
