"""The prior as a loss for anybody's autoencoder: its gradient against enumeration, in a plain loop and under Lightning."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import qvae
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.latent import LatentConfig
from qvae.errors import CapabilityError
from qvae.ising import graphs
from qvae.models.prior import BoltzmannPrior, boltzmann_prior, make_graph
from qvae.sampling.sampler import LatentSampler, Samples


def small_prior(seed=0, graph=None):
    torch.manual_seed(seed)
    prior = BoltzmannPrior(graphs.rbm(2, 3) if graph is None else graph)
    with torch.no_grad():
        prior.h.normal_(0, 0.5)
        prior.J.normal_(0, 0.7)
    return prior


def exact_divergence(prior, logits):
    """KL(q || p) by the sum over all states, log Z included, (B,)."""
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=prior.num_spins)), dtype=torch.float64)
    energies = prior.hamiltonian().to(dtype=torch.float64).energy(2 * states - 1)
    log_p = -energies - torch.logsumexp(-energies, 0)
    log_q = torch.distributions.Bernoulli(logits=logits.double().unsqueeze(1)).log_prob(states).sum(-1)
    return (log_q.exp() * (log_q - log_p)).sum(1)


@pytest.mark.parametrize("graph", [graphs.rbm(2, 3), graphs.complete(5)], ids=["rbm", "complete"])
def test_its_gradient_is_that_of_the_divergence(graph):
    prior = small_prior(graph=graph)
    logits = torch.randn(7, 5, requires_grad=True)
    weights = torch.rand(7)
    (weights * prior.kl_divergence(logits, qvae.load_sampler("exact"), 1)).sum().backward()
    found = [logits.grad.clone(), prior.h.grad.clone(), prior.J.grad.clone()]
    logits.grad = prior.h.grad = prior.J.grad = None
    (weights * exact_divergence(prior, logits)).sum().backward()
    for mine, exact in zip(found, (logits.grad, prior.h.grad, prior.J.grad), strict=True):
        torch.testing.assert_close(mine, exact, atol=1e-5, rtol=1e-4)


def test_its_value_is_the_divergence_less_log_z():
    prior, logits = small_prior(), torch.randn(4, 5)
    log_z = qvae.ising.exact.exact_distribution(prior.frozen()).log_z
    found = prior.kl_divergence(logits, qvae.load_sampler("exact"), 1)
    torch.testing.assert_close(found.double() + log_z, exact_divergence(prior, logits), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("latent", "graph"),
    [
        ({"graph": "rbm", "sizes": [2, 3]}, graphs.rbm(2, 5)),
        ({"graph": "complete", "sizes": [3]}, graphs.complete(5)),
        ({"graph": "chimera", "sizes": [1, 2]}, graphs.chimera(1, 2)),
        ({"graph": "pegasus", "sizes": [2]}, graphs.pegasus(2)),
        ({"graph": "zephyr", "sizes": [1, 2]}, graphs.zephyr(1, 2)),
        (
            {"graph": "edges", "sizes": [3], "edges": [[0, 2]]},
            graphs.edge_list([(0, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4)], 5),
        ),
    ],
)
def test_a_graph_is_the_one_that_is_named_with_label_units_where_it_takes_them(latent, graph):
    units = 2 if latent["graph"] in ("rbm", "complete", "edges") else 0
    made = make_graph(LatentConfig(**latent), units)
    assert (made.num_spins, made.edges.tolist()) == (graph.num_spins, graph.edges.tolist())


def test_what_a_prior_can_not_be():
    with pytest.raises(ValueError, match="graph is native: the sampler's hardware must give it"):
        make_graph(LatentConfig(graph="native", sizes=[3]))
    field = torch.tensor([0.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="gamma is 0 on some spin; one that is trained must start above 0"):
        BoltzmannPrior(graphs.complete(3), field, train_gamma=True)
    assert BoltzmannPrior(graphs.complete(3), field).hamiltonian().gamma.tolist() == field.tolist()
    trained = BoltzmannPrior(graphs.complete(3), 0.25, train_gamma=True)
    assert trained.hamiltonian().gamma.tolist() == pytest.approx([0.25] * 3)
    with pytest.raises(CapabilityError, match="this model has no Boltzmann prior, .*; take a qvae, or a vqvae whose"):
        boltzmann_prior(nn.Linear(1, 1))
    with pytest.raises(CapabilityError, match=r"a Boltzmann prior is drawn by a sampler, and none was given; load_sampler"):
        small_prior().draw(3)


def test_couplings_are_saved_with_their_edges():
    """The same number of edges is not the same edges."""
    path, star = (graphs.edge_list(edges, 4) for edges in ([(0, 1), (1, 2), (2, 3)], [(0, 1), (0, 2), (0, 3)]))
    prior, other = small_prior(1, path), small_prior(2, star)
    state = prior.state_dict()
    with pytest.raises(ValueError, match="of 3 other edges than the 3 of the prior's graph; load it into a prior on the graph"):
        other.load_state_dict(state)
    same = small_prior(3, path)
    same.load_state_dict(state)
    assert torch.equal(same.J, prior.J)
    # As part of a larger model, too.
    with pytest.raises(ValueError, match="3 other edges"):
        nn.ModuleDict({"prior": other}).load_state_dict(nn.ModuleDict({"prior": prior}).state_dict())


def test_couplings_saved_in_another_order_of_the_edges_go_with_them():
    prior, again = (small_prior(seed, graphs.complete(4)) for seed in (1, 2))
    state = prior.state_dict()
    shuffle = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    state["J"], state["_extra_state"] = state["J"][shuffle], state["_extra_state"][shuffle].flip(1)
    again.load_state_dict(state)
    assert torch.equal(again.J, prior.J)


def test_states_that_dont_name_their_edges_load(tmp_path):
    prior, again = small_prior(1), small_prior(2)
    state = prior.state_dict()
    del state["_extra_state"]
    again.load_state_dict(state)
    assert torch.equal(again.J, prior.J)
    model = nn.ModuleDict({"prior": small_prior(3)})
    model.load_state_dict({f"prior.{key}": value for key, value in state.items()})
    assert torch.equal(model["prior"].J, prior.J)
    # What a checkpoint holds comes back.
    save_checkpoint(tmp_path / "state", {"model": prior.state_dict()})
    again.load_state_dict(load_checkpoint(tmp_path / "state")["model"])


def test_no_samples_are_drawn_where_no_gradient_is_wanted():
    class Refusing(LatentSampler):
        def _sample(self, hamiltonian, num_samples):
            raise AssertionError("asked")

    with torch.no_grad():
        assert small_prior().kl_divergence(torch.zeros(3, 5), Refusing()).shape == (3,)


class Weighing(LatentSampler):
    """All spins up, and all down in the second half; the first half weighs as much as is said."""

    def __init__(self, first):
        self.first, self.asked = first, []

    def _sample(self, hamiltonian, num_samples):
        self.asked.append(num_samples)
        is_first = torch.arange(num_samples) < num_samples // 2
        spins = torch.where(is_first, 1, -1).to(torch.int8).unsqueeze(1).expand(-1, hamiltonian.num_spins)
        weights = torch.where(is_first, self.first, 1 - self.first) / (num_samples // 2)
        return Samples(spins.contiguous(), weights)


def test_as_many_samples_are_drawn_as_are_asked_for_and_their_weights_count():
    prior, sampler = small_prior(), Weighing(0.8)
    prior.kl_divergence(torch.zeros(3, 5), sampler, 10).mean().backward()
    # q's spins are fair: the gradient is minus the sampler's mean of 0.8 - 0.2, and of pairs that agree.
    torch.testing.assert_close(prior.h.grad, torch.full((5,), -0.6))
    torch.testing.assert_close(prior.J.grad, torch.full((6,), -1.0))
    prior.kl_divergence(torch.zeros(3, 5), sampler).sum()
    found = [prior.draw(1000, sampler, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert sampler.asked == [10, 256, 1000, 1000, 1000]
    assert float(found[0].mean()) == pytest.approx(0.8)
    assert torch.equal(found[0], found[1])  # the generator decides on the order
    assert not torch.equal(found[0], found[2])


def striped(count=256):
    """Bits of two kinds of images: rows or columns."""
    generator = np.random.default_rng(0)
    lines = generator.integers(0, 2, (count, 4))
    rows = np.where(generator.integers(0, 2, (count, 1, 1)) > 0, lines[:, :, None], lines[:, None, :])
    return torch.from_numpy(rows.reshape(count, 16) + np.zeros((1, 16))).float()


class Autoencoder(nn.Module):
    """Somebody's own, which takes only the prior from here."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, 6), nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 16))
        self.prior = BoltzmannPrior(graphs.rbm(3, 3))
        self.sampler = qvae.load_sampler("gibbs", seed=0)

    def loss(self, x):
        logits = self.encoder(x)
        zeta = torch.sigmoid((logits + torch.logit(torch.rand_like(logits).clamp(1e-6, 1 - 1e-6))) / 0.5)
        reconstruction = nn.functional.binary_cross_entropy_with_logits(self.decoder(zeta), x, reduction="none").sum(1)
        return (reconstruction + self.prior.kl_divergence(logits, self.sampler, 64)).mean()


def test_it_trains_in_a_plain_loop():
    torch.manual_seed(0)
    model, x = Autoencoder(), striped()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(x)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 2
    assert model.prior.J.abs().max() > 0.1


def test_it_trains_in_a_lightning_module():
    import lightning.pytorch as lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.autoencoder = Autoencoder()
            self.losses = []

        def training_step(self, batch, index):
            loss = self.autoencoder.loss(batch[0])
            self.losses.append(float(loss.detach()))
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.02)

    torch.manual_seed(0)
    module = Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(striped()), batch_size=64, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert np.mean(module.losses[-10:]) < np.mean(module.losses[:10]) - 2


@pytest.mark.parametrize(
    ("latent", "expected"),
    [
        ({"graph": "rbm", "sizes": [2, 3]}, graphs.rbm(2, 3)),
        ({"graph": "complete", "sizes": [4]}, graphs.complete(4)),
        ({"graph": "chimera", "sizes": [1, 2, 3]}, graphs.chimera(1, 2, 3)),
        ({"graph": "pegasus", "sizes": [2]}, graphs.pegasus(2)),
        ({"graph": "zephyr", "sizes": [1, 2]}, graphs.zephyr(1, 2)),
        ({"graph": "edges", "sizes": [4], "edges": [[0, 3], [1, 2]]}, graphs.edge_list([(0, 3), (1, 2)], 4)),
    ],
)
def test_graphs_are_those_named(latent, expected):
    config = LatentConfig(**latent)
    found = make_graph(config)
    assert torch.equal(found.edges, expected.edges)
    assert found.num_spins == expected.num_spins == config.num_spins


def test_a_prior_begins_without_fields_and_with_small_couplings():
    """So that its distribution is nearly uniform; a field that is trained begins at the one that is given."""
    torch.manual_seed(0)
    prior = BoltzmannPrior(graphs.complete(60), gamma=0.7, train_gamma=True)
    assert not prior.h.any()
    assert float(prior.J.detach().std()) == pytest.approx(0.01, rel=5 / (2 * len(prior.J)) ** 0.5)
    assert prior.frozen().gamma.tolist() == pytest.approx([0.7] * 60)
    assert {name for name, _ in prior.named_parameters()} == {"h", "J", "log_gamma"}
    assert {name for name, _ in BoltzmannPrior(graphs.complete(3), gamma=0.7).named_parameters()} == {"h", "J"}
    assert {name for name, _ in BoltzmannPrior(graphs.complete(3)).named_parameters()} == {"h", "J"}


@pytest.mark.parametrize("held", [(), (4, 1)])
def test_what_is_drawn_has_the_prior_s_means_with_fields_and_held_bits(held):
    prior, bias, draws = small_prior(), torch.tensor([0.9, 0.0, -0.6, 0.3, 0.0]), 4000
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    fits = (states[:, list(held)] == torch.tensor([1.0, 0.0])[: len(held)]).all(1)
    weights = torch.softmax(-prior.frozen().energy(2 * states - 1) - (2 * states - 1) @ bias, 0) * fits
    means = (weights / weights.sum()) @ states
    found = prior.draw(draws, qvae.load_sampler("exact", seed=0), None, bias, held, (1, 0)[: len(held)])
    assert set(found.unique().tolist()) == {0.0, 1.0}
    error = (means * (1 - means) / draws).sqrt()
    assert ((found.mean(0) - means).abs() <= 5 * error + 1e-6).all()
