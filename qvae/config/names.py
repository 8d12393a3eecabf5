"""What a configuration can name: one line for each likelihood, where its class is found when it is used."""

LIKELIHOODS = {
    "bernoulli": "qvae.models.likelihoods.bernoulli:Bernoulli",
    "gaussian": "qvae.models.likelihoods.gaussian:Gaussian",
    "poisson": "qvae.models.likelihoods.counts:Poisson",
    "negative-binomial": "qvae.models.likelihoods.counts:NegativeBinomial",
    "categorical": "qvae.models.likelihoods.categorical:Categorical",
}
"""p(x | decoder's output), by its name in ``model.likelihood``."""
