"""Codes, posteriors and priors of every kind against torch's distributions, and numbers by hand."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from qvae.circuits.executor import ExecutorCapabilities
from qvae.circuits.registry import load_executor
from qvae.config.circuit import CircuitConfig
from qvae.ising.exact import state_numbers
from qvae.models.circuit_block import CircuitBlock, perceptron
from qvae.models.gaussian import GaussianCode, GaussianPosterior, IdentityPosterior, NormalPrior, PointPosterior
from qvae.models.measured import MeasuredCode, MeasuredPosterior, gumbel
from qvae.models.posterior import BernoulliCode, Posterior


def test_gaussian_codes():
    mean, log_variance = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([[0.2, -0.4], [1.0, -2.0]])
    latents = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]])
    code, q = GaussianCode(mean, log_variance, latents), Normal(mean, (log_variance / 2).exp())
    expected = q.log_prob(latents.view(2, 2, 2).transpose(0, 1)).sum(-1).T.flatten()  # two draws of each row, side by side
    torch.testing.assert_close(code.log_prob(), expected)
    torch.testing.assert_close(code.entropy(), q.entropy().sum(-1))
    torch.testing.assert_close(code.means(), mean)
    torch.testing.assert_close(code.variances(), q.variance)
    p = Normal(torch.zeros(2), torch.ones(2))
    torch.testing.assert_close(NormalPrior(2).log_prob(latents), p.log_prob(latents).sum(-1))
    divergence = torch.distributions.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(NormalPrior(2).expected_energy(code) - code.entropy(), divergence)


def test_a_gaussian_posterior_draws_what_it_says():
    torch.manual_seed(0)
    posterior = GaussianPosterior(3, 2, initial_log_variance=-2.0)
    assert posterior.moments.bias[2:].tolist() == [-2.0, -2.0]
    assert posterior.moments.bias[:2].abs().max() < 1
    assert posterior(torch.zeros(1, 3), relaxed=True).variances().tolist() == [[pytest.approx(math.exp(-2))] * 2]
    features = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    code = posterior(features, relaxed=False, generator=torch.Generator().manual_seed(1), draws=20_000)
    drawn = code.latents.view(2, 20_000, 2)
    spread = (code.variances() / 20_000).sqrt()
    assert ((drawn.mean(1) - code.means()).abs() < 5 * spread).all()
    assert ((drawn.var(1) / code.variances() - 1).abs() < 5 * math.sqrt(2 / 20_000)).all()
    first, second = (drawn - code.means().unsqueeze(1)) / code.variances().sqrt().unsqueeze(1)
    assert ((first * second).mean(0).abs() < 5 / math.sqrt(20_000)).all()  # each row has noise of its own


def test_draws_of_a_normal_prior_and_points_follow_what_they_are_given():
    first, again, other = (NormalPrior(3).draw(4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    code = PointPosterior(3, 2)(torch.eye(3)[:2], relaxed=False, draws=2)
    assert torch.equal(code.latents[0], code.latents[1])
    assert not torch.equal(code.latents[1], code.latents[2])
    assert not code.variances().any()


def test_bits():
    logits, bits = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    code, q = BernoulliCode(logits, bits), Bernoulli(logits=logits)
    torch.testing.assert_close(code.log_prob(), q.log_prob(bits).sum(-1))
    torch.testing.assert_close(code.entropy(), q.entropy().sum(-1))
    torch.testing.assert_close(code.means(), q.mean)
    torch.testing.assert_close(code.variances(), q.variance)


def test_draws_of_one_row_stand_side_by_side_in_every_level():
    torch.manual_seed(0)
    posterior = Posterior(4, [2, 3])
    features = torch.randn(5, 4)
    code = posterior(features, None, torch.Generator().manual_seed(0), draws=3)
    first = posterior.levels[0](features).repeat_interleave(3, 0)
    second = posterior.levels[1](torch.cat([features.repeat_interleave(3, 0), code.latents[:, :2]], 1))
    torch.testing.assert_close(code.logits, torch.cat([first, second], 1))


def test_measured_bits():
    """Probabilities of 00, 10, 01 and 11, the first letter being qubit 0."""
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.2, 0.0]])
    bits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    code = MeasuredCode(probabilities, bits)
    assert state_numbers(bits).tolist() == [1, 2, 0, 1]
    torch.testing.assert_close(code.log_prob().exp(), torch.tensor([0.2, 0.3, 0.7, 0.1]))
    torch.testing.assert_close(code.means(), torch.tensor([[0.6, 0.7], [0.1, 0.2]]))
    torch.testing.assert_close(code.variances(), torch.tensor([[0.24, 0.21], [0.09, 0.16]]))
    expected = [-sum(p * math.log(p) for p in row if p) for row in ([0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.2])]
    torch.testing.assert_close(code.entropy(), torch.tensor(expected))


def test_relaxed_bits_are_those_of_their_own_row():
    """Angles of 0 and of half a turn, so that the bits are certain: 00 and 11, however softly they are drawn."""
    block = CircuitBlock.from_config(CircuitConfig(qubits=2, layers=1, initial_weights=0.0, encoding="rx", angles="linear"))
    posterior = MeasuredPosterior(1, block, temperature=0.1)
    with torch.no_grad():
        posterior.preimage.weight.fill_(math.pi)
        posterior.preimage.bias.zero_()
        block.layer.weight.zero_()
        code = posterior(torch.tensor([[0.0], [1.0]]), True, torch.Generator().manual_seed(0), draws=3)
    certain = block.probabilities(torch.tensor([[0.0, 0.0], [math.pi, math.pi]])).argmax(1).tolist()
    assert certain[0] != certain[1]
    assert state_numbers(code.latents.round()).tolist() == [certain[0]] * 3 + [certain[1]] * 3
    block.layer.executor = load_executor("statevector", seed=0)
    block.layer.executor.capabilities = ExecutorCapabilities()  # which knows bits alone
    measured = posterior(torch.tensor([[0.0], [1.0]]), False, draws=3)
    assert measured.probabilities is None
    assert state_numbers(measured.latents).tolist() == [certain[0]] * 3 + [certain[1]] * 3


def test_gumbel_noise_is_gumbel_s():
    noise = gumbel(torch.empty(100_000), torch.Generator().manual_seed(0))
    assert float(noise.mean()) == pytest.approx(0.57722, abs=5 * 1.2826 / 100_000**0.5)  # Euler's constant
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.05)
    assert float((noise < 0).float().mean()) == pytest.approx(math.exp(-1), abs=5 * (0.25 / 100_000) ** 0.5)


def test_gumbel_noise_is_finite_at_both_ends(monkeypatch):
    """A random number of 24 bits is 0 once in 16 million times."""
    for dtype in (torch.float32, torch.float64):
        monkeypatch.setattr(torch, "rand", lambda shape, dtype, **others: torch.tensor([0.0, 1.0], dtype=dtype))
        low, high = gumbel(torch.empty(2, dtype=dtype), None).tolist()
        bits = 1 - math.log2(torch.finfo(dtype).eps)
        assert (low, high) == pytest.approx((-math.log(bits * math.log(2)), bits * math.log(2)), rel=1e-6)


def test_angles_weights_and_observables_of_a_block():
    torch.manual_seed(0)
    block = CircuitBlock.from_config(CircuitConfig(qubits=3, layers=8, initial_weights=0.3, measured="zz"))
    assert block.angles(torch.tensor([-50.0, 0.0, 50.0])).tolist() == pytest.approx([0.0, math.pi / 2, math.pi], abs=1e-6)
    spread = 0.3 / math.sqrt(2 * block.layer.weight.numel())
    assert float(block.layer.weight.detach().std()) == pytest.approx(0.3, abs=5 * spread)
    labels = ["IIZ", "IZI", "ZII", "IZZ", "ZIZ", "ZZI"]
    assert block.layer.observables == [[(label, 1.0)] for label in labels]
    # Turned by 0, 1 and 2 halves of a turn and by nothing else, qubits are at |0>, between and |1>.
    with torch.no_grad():
        block.layer.weight.zero_()
        found = block(torch.tensor([[-50.0, 0.0, 50.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, -1.0, 0.0, -1.0, 0.0]]), atol=1e-5, rtol=0)


def test_a_perceptron_has_as_many_parameters_as_the_circuit_weights():
    """As nearly as any number of hidden units can have; the numbers of inputs and of outputs differ."""
    for qubits, layers, measured in ((3, 2, "z"), (4, 6, ["ZZII"]), (6, 4, "zz"), (3, 1, "zz"), (5, 2, "zz"), (5, 1, "zz")):
        block = CircuitBlock.from_config(CircuitConfig(qubits=qubits, layers=layers, measured=measured))
        seen = len(block.layer.observables)
        counts = [hidden * (qubits + 1) + (hidden + 1) * seen for hidden in range(1, 100)]
        nearest = min(abs(count - block.circuit.num_weights) for count in counts)
        made = perceptron(block)
        count = sum(weight.numel() for weight in made.parameters())
        assert count in counts
        assert abs(count - block.circuit.num_weights) == nearest
        outputs = made(torch.randn(7, qubits))
        assert outputs.shape == (7, seen)
        assert outputs.abs().max() <= 1


def test_a_block_keeps_full_precision_among_networks_that_do_not():
    torch.manual_seed(0)
    block, latents = CircuitBlock.styled(CircuitConfig(qubits=2, layers=2), num_inputs=3), torch.randn(4, 3)

    def found():
        block.layer.executor = load_executor("statevector", seed=1)
        return block(latents), block.probabilities(latents), block.sample(latents, 500)

    expected = found()
    with torch.autocast("cpu", torch.bfloat16):
        among = found()
    for one, other in zip(expected, among, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(block(latents.double()), expected[0])


@pytest.mark.parametrize("posterior", [PointPosterior(4, 3), IdentityPosterior(4)])
def test_draws_of_a_row_that_are_all_the_same_stand_side_by_side(posterior):
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    one, three = (posterior(features, relaxed=False, draws=draws).latents for draws in (1, 3))
    assert torch.equal(three, one.repeat_interleave(3, 0))
    assert len(one.unique(dim=0)) == 5


def test_normal_noise_turns_a_styled_circuit_by_a_radian_from_anywhere():
    torch.manual_seed(0)
    for inputs in (1, 40):
        angles = CircuitBlock.styled(CircuitConfig(qubits=8, layers=50), inputs).angles
        weight, bias = angles.weight.detach(), angles.bias.detach()
        assert float(weight.var()) * inputs == pytest.approx(1, abs=5 * math.sqrt(2 / weight.numel()))
        assert float(bias.abs().max()) <= math.pi
        assert float(bias.var()) == pytest.approx(math.pi**2 / 3, rel=5 * math.sqrt(0.8 / 400))
