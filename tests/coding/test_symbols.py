"""Questions about data: all answers together have the likelihood's own probability, however rare the data are."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from qvae.coding.symbols import _between, answered, questions
from qvae.errors import CapabilityError
from qvae.models.likelihoods.categorical import Categorical
from qvae.models.likelihoods.counts import NegativeBinomial, Poisson
from qvae.models.likelihoods.gaussian import Gaussian
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.likelihoods.recurrent import RecurrentStrings
from qvae.models.likelihoods.strings import Strings


def log_prob_of_answers(likelihood, output, rows):
    """Sums of the answers' log-probabilities, (B,)."""
    total, asked = np.zeros(rows.shape), 0

    def ask(log_odds, where, threshold):
        nonlocal asked
        is_above = rows[where] >= threshold
        total[where] -= np.logaddexp(0, np.where(is_above, -1, 1) * log_odds.numpy())
        asked += is_above.size
        return is_above

    assert np.array_equal(answered(likelihood, output, ask), rows)
    assert asked <= len(rows) * questions(likelihood)
    return total.sum(1)


def wide(count):
    """Outputs (count, 2) of counts with means from 0.02 to 20,000."""
    return torch.linspace(-4, 10, 2 * count, dtype=torch.float64).view(count, 2)


@pytest.mark.parametrize("dispersion", [None, 1e-6, 0.3, 8.0])
def test_counts_have_their_probability(dispersion):
    likelihood = (Poisson if dispersion is None else NegativeBinomial)(Statistics.blank((2,))).double()
    if dispersion is not None:
        likelihood.log_dispersion.data.fill_(np.log(dispersion))
    output = wide(200)
    spread = 2 * torch.rand(output.shape, generator=torch.Generator().manual_seed(0)) ** 4
    rows = torch.cat([(output.exp() * spread).round(), torch.zeros(200, 2), torch.arange(400).view(200, 2)])
    output = output.repeat(3, 1)
    rows, output = (torch.cat([part, part.flip(1)]) for part in (rows, output))
    with torch.no_grad():
        expected = likelihood.log_prob(output, rows).numpy()
        found = log_prob_of_answers(likelihood, output, rows.numpy().astype(np.int64))
    likely = expected > -20
    assert likely.sum() > 300
    np.testing.assert_allclose(found[likely], expected[likely], atol=1e-6, rtol=1e-6)
    # What is ruled out is found, too, at the price of what surprises by 2^-40 and of fair coins.
    assert np.all(found > -2 * (40 + 2 * 25) * np.log(2))


def test_tails_have_all_their_digits():
    count, asked = np.array([[3, 5000, 9]]), np.array([[True, True, False]])
    output = torch.tensor([[0.0, 6.0, 1.0]], dtype=torch.float64)
    mean = np.exp(output.numpy())
    poisson = Poisson(Statistics.blank((3,))).double().tails(output, count, asked)
    negative = NegativeBinomial(Statistics.blank((3,))).double()
    negative.log_dispersion.data.fill_(np.log(0.25))
    r = 1 / negative.dispersion.detach().numpy()
    with torch.no_grad():
        found = negative.tails(output, count, asked)
    for below, law in ((poisson, stats.poisson(mean)), (found, stats.nbinom(r, r / (r + mean)))):
        np.testing.assert_allclose(below[0][asked], law.cdf(count - 1)[asked], rtol=1e-12)
        np.testing.assert_allclose(below[1][asked], law.sf(count - 1)[asked], rtol=1e-9)


def test_one_count_has_all_its_digits_in_both_tails_and_between():
    likelihood, count = Poisson(Statistics.blank((3,))).double(), np.array([[8, 60, 180]])
    output = torch.full((1, 3), math.log(60), dtype=torch.float64)
    first, last = (likelihood.tails(output, ends, np.ones((1, 3), bool)) for ends in (count, count + 1))
    np.testing.assert_allclose(_between(first, last), stats.poisson(60).pmf(count), rtol=1e-9)


@pytest.mark.parametrize("levels", [2, 3, 8, 9])
def test_categories_have_their_probability(levels):
    likelihood = Categorical(Statistics.blank((1, levels), levels)).double()
    output = 3 * torch.randn(4, levels * levels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(levels).expand(4, levels)
    expected = likelihood.log_prob(output, rows).numpy()
    np.testing.assert_allclose(log_prob_of_answers(likelihood, output, rows.numpy()), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [Strings, RecurrentStrings])
def test_strings_have_their_probability_to_the_end(kind):
    torch.manual_seed(0)
    likelihood = kind(Statistics.blank((3,), 5)).double()
    rows = np.array([[0, 0, 0], [1, 0, 0], [4, 3, 2], [2, 2, 0], [4, 4, 4]])
    output = 3 * torch.randn(len(rows), 15, dtype=torch.float64)
    with torch.no_grad():
        expected = likelihood.log_prob(output, torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(log_prob_of_answers(likelihood, output, rows), expected, rtol=1e-9)


def test_densities_are_refused():
    with pytest.raises(CapabilityError, match=r"reals can't be kept without loss .* density, no probabilities"):
        questions(Gaussian(Statistics.blank((3,))))
