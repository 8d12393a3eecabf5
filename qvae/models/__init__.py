"""The models: relaxations, networks, posteriors and priors, and the autoencoders made of them."""
