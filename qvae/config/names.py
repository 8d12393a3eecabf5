"""What a configuration can name: likelihoods, each with the place of its class, and what damages rows."""

from typing import Literal

LIKELIHOODS = {
    "bernoulli": "qvae.models.likelihoods.bernoulli:Bernoulli",
    "gaussian": "qvae.models.likelihoods.gaussian:Gaussian",
    "poisson": "qvae.models.likelihoods.counts:Poisson",
    "negative-binomial": "qvae.models.likelihoods.counts:NegativeBinomial",
    "categorical": "qvae.models.likelihoods.categorical:Categorical",
    "strings": "qvae.models.likelihoods.strings:Strings",
    "recurrent-strings": "qvae.models.likelihoods.recurrent:RecurrentStrings",
}
"""p(x | decoder's output), by its name in ``model.likelihood``."""

Damage = Literal["salt-and-pepper", "dropped", "gaussian", "hidden", "coarse"]
"""What ``training.corruption`` may be."""
