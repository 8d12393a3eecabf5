"""The game of a VQGAN from its configuration: what generator and critic are told of the data, and what comes before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qvae.config.schema import Config, ModelConfig
from qvae.data.classes import places_of_labels, with_classes
from qvae.data.dataset import Dataset, epoch_permutation
from qvae.evaluation.grey_scale import GreyScale
from qvae.files import from_here
from qvae.models.vqgan import VQGAN
from qvae.training.objective import Objective
from qvae.training.objectives.adversarial import AdversarialObjective
from qvae.training.objectives.latent_game import LatentGame, standardise_latents

_STANDARDISING_ROWS = 10_000  # whose mean and variance are good to a percent
_REFERENCE_ROWS = 500  # that samples are compared with at the end of each epoch: milliseconds


def make_game(config: Config, model: VQGAN, dataset: Dataset) -> Objective:
    """The objective of a game, in latents or in pixels; an autoencoder that isn't taken from a run is trained before it."""
    gan, critic, training = config.model.gan, config.model.critic, config.training
    assert gan is not None
    assert critic is not None
    chosen = epoch_permutation(len(dataset.train), 0, 0)[:_STANDARDISING_ROWS]
    rows = dataset.train[chosen].flatten(1)
    reference = rows[:_REFERENCE_ROWS]
    if model.prior.classes:
        places = places_of_labels(dataset)
        model.prior.frequencies.copy_(places.bincount() / len(places))
        reference = with_classes(reference, places[chosen[:_REFERENCE_ROWS]])
    game = AdversarialObjective(model, dataset.prepare_in_training, training, critic, reference)
    if not game.is_remote:
        model.prior.begin_as_wide_as_data(torch.Generator(game.device).manual_seed(training.seed))
    if not model.compresses:
        model.freeze_autoencoder()
        _see_grey_levels(model, GreyScale.of(dataset))
        return game
    if gan.autoencoder is None:
        return LatentGame(game, training, gan, rows)
    standardise_latents(model, game, rows)
    return game


def remarks_on_autoencoder(config: ModelConfig) -> list[str]:
    """What a user is told of an autoencoder that is taken from a run: which keys have nothing to say then."""
    if config.gan is None or config.gan.autoencoder is None:
        return []
    keys = "model.network, gan.latents, gan.autoencoder_share and gan.kl_weight"
    return [f"the autoencoder is the one of {from_here(Path(config.gan.autoencoder))}, as it stands; {keys} have no part in it"]


def _see_grey_levels(model: VQGAN, scale: GreyScale) -> None:
    """Have generator and critic of pixels see 0 for black and 1 for white."""
    likelihood: Any = model.likelihood
    model.prior.mean.copy_((scale.black - likelihood.centre) / likelihood.scale)
    model.prior.std.copy_((scale.white - scale.black) / likelihood.scale)
