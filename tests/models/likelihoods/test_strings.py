"""The likelihoods of strings against all strings there are: probabilities, their sum, the most probable one, and draws."""

import itertools
import math

import numpy as np
import pytest
import torch

from qvae.config.schema import ModelConfig
from qvae.data.strings import dataset_from_strings
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.likelihoods.recurrent import RecurrentStrings
from qvae.models.likelihoods.strings import Strings

K, L = 3, 4  # the end, a and b; at most four of them
NUM = 200_000


def every_string():
    """All strings of up to L characters as rows (N, L)."""
    strings = [characters for length in range(L + 1) for characters in itertools.product((1, 2), repeat=length)]
    return torch.tensor([[*string, *(L - len(string)) * (0,)] for string in strings], dtype=torch.float32)


ALL = every_string()


@pytest.fixture(params=[Strings, RecurrentStrings])
def likelihood(request):
    torch.manual_seed(1)
    options = {"width": 5} if request.param is RecurrentStrings else {}
    made = request.param(Statistics.blank((L,), K), **options)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return made


def outputs(count=1, seed=0):
    return torch.randn(count, K * L, generator=torch.Generator().manual_seed(seed))


def test_symbols_up_to_and_including_the_end_are_counted():
    output = outputs()
    p = output.view(K, L).softmax(0).numpy()
    for row in ALL.int().tolist():
        length = row.index(0) if 0 in row else L
        expected = sum(math.log(p[symbol, place]) for place, symbol in enumerate(row[:length]))
        expected += math.log(p[0, length]) if length < L else 0.0
        found = Strings(Statistics.blank((L,), K)).log_prob(output, torch.tensor([row]).float())
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_what_stands_behind_the_end_makes_no_difference(likelihood):
    rows = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 2.0, 1.0]])
    first, second = likelihood.log_prob(outputs(), rows).tolist()
    assert first == second


def test_the_probabilities_of_all_strings_add_to_one(likelihood):
    total = likelihood.log_prob(outputs(5).unsqueeze(1), ALL).double().exp().sum(1)
    torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_each_symbol_is_given_those_before_it_as_it_is_read_one_by_one():
    torch.manual_seed(2)
    likelihood = RecurrentStrings(Statistics.blank((L,), K), width=5)
    output, expected = outputs(), torch.zeros(len(ALL))
    logits = output.view(K, L)
    for number, row in enumerate(ALL.long()):
        state, before = torch.zeros(1, 1, 5), torch.zeros(K)
        for place, symbol in enumerate(row):
            read, state = likelihood.reader(torch.cat([before, logits[:, place]]).view(1, 1, -1), state)
            given = logits[:, place] + likelihood.added(read).view(K)
            expected[number] += given.log_softmax(0)[symbol].detach()
            before = torch.eye(K)[symbol]
            if symbol == 0:
                break
    torch.testing.assert_close(likelihood.log_prob(output, ALL), expected, atol=1e-5, rtol=1e-5)


def test_draws_have_the_probabilities_of_their_strings(likelihood):
    output = outputs(seed=3)
    with torch.no_grad():
        rows = likelihood.sample(output.expand(NUM, -1), torch.Generator().manual_seed(0))
        p = likelihood.log_prob(output, ALL).double().exp().numpy()
    weights = torch.tensor([K ** (L - 1 - place) for place in range(L)], dtype=torch.float32)
    names = (ALL @ weights).int().tolist()
    counts = np.bincount((rows @ weights).int().numpy(), minlength=K**L)
    assert counts.sum() == counts[names].sum()  # nothing but strings, with ends alone behind the first one
    error = np.sqrt(p * (1 - p) / NUM)
    assert (np.abs(counts[names] / NUM - p) < 5 * error + 1e-9).all()


def test_the_mean_is_the_most_probable_string():
    likelihood = Strings(Statistics.blank((L,), K))
    many = 2 * outputs(300, seed=5)
    best = likelihood.log_prob(many.unsqueeze(1), ALL).argmax(1)
    assert likelihood.mean(many).equal(ALL[best])
    assert {int((ALL[row] > 0).sum()) for row in best} == set(range(L + 1))  # of every length


def test_the_most_probable_symbols_are_found_one_by_one(likelihood):
    many = outputs(50, seed=6)
    with torch.no_grad():
        found = likelihood.mean(many)
        p = likelihood.log_prob(many, found)
        drawn = likelihood.log_prob(many, likelihood.sample(many, torch.Generator().manual_seed(1)))
    assert (p >= drawn - 1e-5).float().mean() > 0.8


def test_at_the_start_symbols_are_as_frequent_as_where_strings_go_on():
    strings = ["ab", "ab", "a", "b", "bbb"]
    likelihood = Strings(Statistics.of(dataset_from_strings(strings, test=["bbbb"])))
    p = likelihood.initial_bias().view(3, 4).exp()
    expected = [[0, 2 / 5, 2 / 3, 1], [3 / 5, 0, 0, 0], [2 / 5, 3 / 5, 1 / 3, 0]]
    torch.testing.assert_close(p, torch.tensor(expected).clamp_min(1e-4), atol=1e-5, rtol=1e-5)


def test_nothing_is_known_where_no_training_string_reaches():
    likelihood = Strings(Statistics.of(dataset_from_strings(["a", "b"], test=["abb"])))
    p = likelihood.initial_bias().view(3, 3).exp()
    torch.testing.assert_close(p[:, 2], torch.full((3,), 1 / 3))


def test_the_recurrent_network_is_as_wide_as_the_layer_next_to_the_data():
    config = ModelConfig(likelihood="recurrent-strings", network={"hidden": [7, 9]})
    assert RecurrentStrings.from_config(config, Statistics.blank((L,), K)).reader.hidden_size == 7
    config = ModelConfig(network={"hidden": []})
    assert RecurrentStrings.from_config(config, Statistics.blank((L,), K)).reader.hidden_size == 128
