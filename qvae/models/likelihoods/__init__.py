"""What data are, given the decoder's output: likelihoods by name, listed without an import, loaded one at a time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from qvae.errors import ConfigError, nearest

if TYPE_CHECKING:
    from qvae.models.likelihoods.likelihood import Likelihood

# A likelihood of your own is a file and a line here.
LIKELIHOODS = {
    "bernoulli": "qvae.models.likelihoods.bernoulli:Bernoulli",
    "gaussian": "qvae.models.likelihoods.gaussian:Gaussian",
    "poisson": "qvae.models.likelihoods.counts:Poisson",
    "negative-binomial": "qvae.models.likelihoods.counts:NegativeBinomial",
    "categorical": "qvae.models.likelihoods.categorical:Categorical",
}


def likelihood_class(name: str) -> type[Likelihood]:
    """The class behind a name in ``LIKELIHOODS``.

    Raises:
        ConfigError: no likelihood has this name.

    >>> likelihood_class("poisson").kind
    'counts'
    """
    if name not in LIKELIHOODS:
        raise ConfigError(f"no likelihood is called {name!r}: {nearest(name, LIKELIHOODS)}.")
    module, _, attribute = LIKELIHOODS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
