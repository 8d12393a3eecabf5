"""Codes to be kept alone: the encoder's most probable ones, or the best trade with the prior that single bits can find."""

import itertools

import pytest
import torch

from qvae.coding.lossy import chosen_codes
from qvae.config.schema import ModelConfig
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE

RBM = {"sizes": [4, 3]}
CHAIN = {"graph": "edges", "sizes": [7], "edges": [[spin, spin + 1] for spin in range(6)]}  # whose colours take turns


def model(levels, latent=RBM):
    torch.manual_seed(0)
    settings = {"latent": latent, "posterior": {"levels": levels}, "network": {"hidden": [16]}}
    found = QVAE.from_config(ModelConfig.model_validate(settings), Statistics.blank((4, 4))).eval()
    for parameter in found.parameters():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    return found


def score(given, logits, codes, thrift):
    return (codes * logits).sum(-1) - thrift * given.prior.frozen().energy(2 * codes - 1)


@pytest.mark.parametrize("latent", [RBM, CHAIN], ids=["rbm", "chain"])
@pytest.mark.parametrize("thrift", [0.0, 0.5, 5.0])
def test_no_change_of_one_bit_makes_a_code_better(thrift, latent):
    given, rows = model(1, latent), (torch.rand(50, 16) < 0.5).float()
    with torch.no_grad():
        logits = given.posterior_sample(rows, relaxed=False).logits
        codes = chosen_codes(given, rows, thrift)
        best = score(given, logits, codes, thrift)
        for bit in range(7):
            changed = codes.clone()
            changed[:, bit] = 1 - changed[:, bit]
            assert bool((score(given, logits, changed, thrift) <= best + 1e-4).all())
    if not thrift:
        assert torch.equal(codes, (logits > 0).float())


def test_a_later_level_sees_the_most_probable_bits_before():
    given, rows = model(2), (torch.rand(20, 16) < 0.5).float()
    with torch.no_grad():
        codes = chosen_codes(given, rows)
        features = given.encoder(given.likelihood.features(rows))
        first = given.posterior.level_logits(0, features, [])
        second = given.posterior.level_logits(1, features, [codes[:, :4]])
    assert torch.equal(codes, (torch.cat([first, second], 1) > 0).float())


def test_much_thrift_ends_in_a_mode_of_the_prior():
    given, rows = model(1), (torch.rand(20, 16) < 0.5).float()
    energies = given.prior.frozen().energy(2 * torch.tensor(list(itertools.product([0.0, 1.0], repeat=7))) - 1)
    found = given.prior.frozen().energy(2 * chosen_codes(given, rows, 1e4) - 1)
    assert float(found.min()) == pytest.approx(float(energies.min()), abs=1e-4)
