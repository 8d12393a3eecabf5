"""What every likelihood promises, each tried on the same data: shapes, broadcasting, gradients, samples, names."""

import copy
import math
import subprocess
import sys

import pytest
import torch

from qvae.config.load import load_config
from qvae.config.schema import ModelConfig
from qvae.errors import ConfigError
from qvae.models.likelihoods import LIKELIHOODS, likelihood_class
from qvae.models.likelihoods.likelihood import Likelihood, Statistics
from qvae.models.likelihoods.recurrent import RecurrentStrings
from qvae.models.likelihoods.strings import ended

ROWS, D, LEVELS = 500, 3, 4
NUM = 200_000
NUMBERED = ("categories", "strings")


def data(kind):
    generator = torch.Generator().manual_seed(3)
    if kind == "bits":
        return torch.bernoulli(torch.tensor([0.2, 0.5, 0.9]).expand(ROWS, D), generator=generator)
    if kind == "reals":
        return torch.tensor([5.0, -2.0, 900.0]) + torch.tensor([1.0, 0.1, 30.0]) * torch.randn(ROWS, D, generator=generator)
    if kind == "counts":
        return torch.poisson(
            torch.tensor([0.7, 4.0, 60.0]) * (1 + torch.rand(ROWS, D, generator=generator)), generator=generator
        )
    symbols = torch.randint(LEVELS, (ROWS, D), generator=generator).float()
    return ended(symbols) if kind == "strings" else symbols


def statistics(x, kind):
    if kind not in NUMBERED:
        return Statistics(x.mean(0), x.std(0))
    frequencies = torch.stack([(x == level).float().mean(0) for level in range(LEVELS)])
    return Statistics(x.mean(0), x.std(0), LEVELS, frequencies)


def made(cls, statistics):
    """A likelihood whose networks, if it has some, are small."""
    return cls(statistics, width=4) if cls is RecurrentStrings else cls(statistics)


@pytest.fixture(params=LIKELIHOODS)
def case(request):
    """A likelihood, its data (ROWS, D), and outputs for each row."""
    cls = likelihood_class(request.param)
    x = data(cls.kind)
    likelihood = made(cls, statistics(x, cls.kind))
    outputs = likelihood.initial_bias() + 0.5 * torch.randn(
        ROWS, likelihood.outputs * D, generator=torch.Generator().manual_seed(4)
    )
    return likelihood, x, outputs


def test_shapes_and_types(case):
    likelihood, x, outputs = case
    for values, shape in (
        (likelihood.log_prob(outputs, x), (ROWS,)),
        (likelihood.mean(outputs), (ROWS, D)),
        (likelihood.sample(outputs), (ROWS, D)),
        (likelihood.features(x), (ROWS, likelihood.inputs * D)),
        (likelihood.input_mean(), (likelihood.inputs * D,)),
        (likelihood.initial_bias(), (likelihood.outputs * D,)),
    ):
        assert values.shape == shape
        assert values.dtype == torch.float32


def test_many_draws_are_many_rows(case):
    likelihood, x, outputs = case
    draws = outputs.view(ROWS // 5, 5, -1)
    one_by_one = likelihood.log_prob(outputs, x[: ROWS // 5].repeat_interleave(5, 0)).view(ROWS // 5, 5)
    torch.testing.assert_close(likelihood.log_prob_draws(draws, x[: ROWS // 5]), one_by_one, rtol=2e-6, atol=2e-5)


def test_at_the_start_the_mean_is_that_of_the_data(case):
    likelihood, x, _ = case
    bias = likelihood.initial_bias()
    if likelihood.kind == "categories":
        torch.testing.assert_close(bias.view(LEVELS, D).softmax(0), likelihood.statistics.frequencies)
    elif likelihood.kind == "strings":
        goes_on = torch.cat([torch.ones(ROWS, 1, dtype=torch.bool), x[:, :-1] > 0], 1)
        expected = torch.stack([((x == k) & goes_on).sum(0) / goes_on.sum(0) for k in range(LEVELS)])
        torch.testing.assert_close(bias.view(LEVELS, D).softmax(0), expected)
    else:
        torch.testing.assert_close(likelihood.mean(bias), x.mean(0), rtol=1e-5, atol=1e-6)


def test_the_encoder_sees_centred_features(case):
    likelihood, x, _ = case
    centred = likelihood.features(x) - likelihood.input_mean()
    allowed = 0.2 if likelihood.kind == "counts" else 1e-4  # log(1 + x) is centred as if it were normal
    assert centred.mean(0).abs().max() < allowed
    assert centred.std(0).min() > 0.1
    assert centred.std(0).max() < 1.3


def test_samples_have_the_mean_and_follow_the_seed(case):
    likelihood, _, outputs = case
    many = outputs[:1].expand(NUM, -1)
    samples = likelihood.sample(many, torch.Generator().manual_seed(0))
    if likelihood.kind == "categories":
        assert samples.mode(0).values.equal(likelihood.mean(outputs[0]))
    elif likelihood.kind == "strings":
        assert samples.equal(ended(samples))
    else:
        error = samples.std(0) / math.sqrt(NUM)
        assert ((samples.mean(0) - likelihood.mean(outputs[0])).abs() < 5 * error).all()
    assert samples.equal(likelihood.sample(many, torch.Generator().manual_seed(0)))
    assert not samples.equal(likelihood.sample(many, torch.Generator().manual_seed(1)))


def test_the_mean_log_probability_of_samples_is_highest_at_their_own_parameters(case):
    """E_p[grad log p] = 0 (the score), in outputs and in the parameters of the likelihood: sample and log_prob agree."""
    likelihood, _, outputs = case
    output = outputs[0].clone().requires_grad_()
    wanted = [output, *likelihood.parameters()]
    with torch.no_grad():
        samples = likelihood.sample(output.expand(NUM, -1), torch.Generator().manual_seed(0))
    scores = [torch.autograd.grad(likelihood.log_prob(output, part).mean(), wanted) for part in samples.split(NUM // 100)]
    for parts in zip(*scores, strict=True):
        score = torch.stack(parts)
        error = score.std(0) / math.sqrt(len(score))
        assert (score.mean(0).abs() <= 5 * error).all()  # both are 0 for a weight that nothing goes through


@pytest.mark.parametrize("size", [1.0, 30.0, 300.0])
def test_gradients_are_finite_far_from_the_data(case, size):
    likelihood, x, outputs = case
    far = (size * torch.sign(outputs - outputs.median())).requires_grad_()
    log_prob = likelihood.log_prob(far, x)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(far.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in likelihood.parameters())
    assert torch.isfinite(likelihood.mean(far.detach())).all()
    assert torch.isfinite(likelihood.sample(far.detach())).all()


def test_a_feature_that_never_varies_is_no_trouble(case):
    likelihood, x, _ = case
    flat = x.clone()
    flat[:, 1] = 0.1 if likelihood.kind == "reals" else 0.0
    fresh = made(type(likelihood), statistics(flat, likelihood.kind))
    for parameter in fresh.parameters():
        parameter.data -= 100.0
    assert torch.isfinite(fresh.features(flat)).all()
    assert torch.isfinite(fresh.initial_bias()).all()
    assert torch.isfinite(fresh.log_prob(fresh.initial_bias(), flat)).all()


def test_a_saved_likelihood_goes_on_from_blank_statistics(case):
    likelihood, x, outputs = case
    for parameter in likelihood.parameters():
        parameter.data += 0.3
    levels = LEVELS if likelihood.kind in NUMBERED else None
    fresh = made(type(likelihood), Statistics.blank((D,), levels))
    fresh.load_state_dict(copy.deepcopy(likelihood.state_dict()))
    assert fresh.log_prob(outputs, x).equal(likelihood.log_prob(outputs, x))
    assert fresh.features(x).equal(likelihood.features(x))
    assert fresh.mean(outputs).equal(likelihood.mean(outputs))


def test_what_goes_out_may_be_changed(case):
    likelihood, _, _ = case
    before = copy.deepcopy(likelihood.statistics)
    likelihood.input_mean().fill_(7.0)
    likelihood.initial_bias().fill_(7.0)
    for buffer in likelihood.buffers():
        buffer.fill_(7.0)
    assert likelihood.statistics.mean.equal(before.mean)
    assert likelihood.statistics.std.equal(before.std)
    assert before.frequencies is None or likelihood.statistics.frequencies.equal(before.frequencies)


def test_statistics_may_have_the_shape_of_an_image(case):
    likelihood, x, outputs = case
    mine = likelihood.statistics
    frequencies = None if mine.frequencies is None else mine.frequencies.view(LEVELS, D, 1)
    image = made(type(likelihood), Statistics(mine.mean.view(D, 1), mine.std.view(D, 1), mine.levels, frequencies))
    image.load_state_dict({name: value.view_as(image.state_dict()[name]) for name, value in likelihood.state_dict().items()})
    assert image.initial_bias().equal(likelihood.initial_bias())
    assert image.input_mean().equal(likelihood.input_mean())
    assert image.log_prob(outputs, x).equal(likelihood.log_prob(outputs, x))


def test_names_and_kinds():
    assert {name: likelihood_class(name).name for name in LIKELIHOODS} == {name: name for name in LIKELIHOODS}
    assert [name for name in LIKELIHOODS if likelihood_class(name).is_density] == ["gaussian"]
    with pytest.raises(ConfigError, match=r"no likelihood is called 'gausian': did you mean 'gaussian'\?"):
        likelihood_class("gausian")


def test_listing_imports_nothing():
    code = "import sys, qvae.models.likelihoods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_configuration_names_one():
    assert load_config(None, ["model.likelihood=negative-binomial"]).model.likelihood == "negative-binomial"
    with pytest.raises(ConfigError, match=r'model.likelihood is "poison"; did you mean \'poisson\'\? Allowed: bernoulli,'):
        load_config(None, ["model.likelihood=poison"])
    with pytest.raises(ConfigError, match=r'model.variance is "each"; Allowed: features, shared'):
        load_config(None, ["model.variance=each"])


HOPEFUL = """
import torch
from qvae.models.likelihoods.bernoulli import Bernoulli


class Hopeful(Bernoulli):
    name = "hopeful"

    def mean(self, output):
        return torch.sigmoid(output + 1)
"""


def test_a_likelihood_of_ones_own_is_a_file_and_a_line_in_the_table(monkeypatch, tmp_path):
    (tmp_path / "a_third_partys.py").write_text(HOPEFUL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LIKELIHOODS, "hopeful", "a_third_partys:Hopeful")
    config = load_config(None, ["model.likelihood=hopeful"]).model
    found = likelihood_class(config.likelihood).from_config(config, Statistics.blank((2, 2)))
    assert isinstance(found, Likelihood)
    assert found.name == "hopeful"
    assert found.mean(torch.zeros(4)).min() > 0.7


def test_the_default_is_bernoulli():
    assert ModelConfig().likelihood == "bernoulli"
