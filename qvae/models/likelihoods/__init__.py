"""What data are, given the decoder's output: likelihoods by name, listed without an import, loaded one at a time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from qvae.config.names import LIKELIHOODS
from qvae.errors import ConfigError, nearest

if TYPE_CHECKING:
    from qvae.models.likelihoods.likelihood import Likelihood


def likelihood_class(name: str) -> type[Likelihood]:
    """The class behind a name in :data:`qvae.config.names.LIKELIHOODS`.

    Raises:
        ConfigError: no likelihood has this name.

    >>> likelihood_class("poisson").kind
    'counts'
    """
    if name not in LIKELIHOODS:
        raise ConfigError(f"no likelihood is called {name!r}: {nearest(name, LIKELIHOODS)}.")
    module, _, attribute = LIKELIHOODS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
