"""What is played again, and when it is recorded. On CUDA, that it is right is tested where there is a GPU."""

import itertools
from pathlib import Path

import pytest
import torch

import qvae
from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import ExecutorCapabilities
from qvae.ising.recorded import CALLS_BEFORE
from qvae.runs.assemble import assemble
from qvae.training.objective import Clock
from qvae.training.objectives.replay import Replay, can_be_replayed
from qvae.training.objectives.surrogate import Surrogate, expected_energy


class Own(torch.nn.Linear):
    """A user's module, of which nobody knows what it does from step to step."""


class OwnExecutor(type(qvae.load_executor("statevector"))):
    """A user's, as above."""


def test_models_and_executors_of_others_are_not_recorded():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert can_be_replayed(model)
    assert not can_be_replayed(torch.nn.Sequential(model, Own(2, 2)))
    layer = qvae.CircuitLayer(Circuit(1, [], num_parameters=0, num_inputs=0))
    assert can_be_replayed(layer, layer.executor)
    assert not can_be_replayed(layer, OwnExecutor())


@pytest.fixture
def recordings(monkeypatch):
    """How often something was to be recorded, which never succeeds here."""
    asked = []
    monkeypatch.setattr("qvae.training.objectives.replay.record", lambda works, owned: asked.append(len(works)))
    return asked


def test_steps_are_recorded_once_they_have_been_the_same_for_a_while(recordings, monkeypatch):
    model = torch.nn.Linear(3, 1)
    replay = Replay(model, torch.Generator(), lambda rows: Surrogate(*model(rows).expand(-1, 3).unbind(1)))

    def steps(number, rows):
        for _ in range(number):
            terms, loss = replay.loss(rows, 0.5)
            torch.testing.assert_close(loss, terms.loss(0.5))
            loss.backward()

    steps(CALLS_BEFORE, torch.ones(4, 3))
    assert recordings == []
    steps(1, torch.ones(4, 3))
    assert recordings == [2]
    assert model.weight.grad is not None  # of the step that Python has made, after it couldn't be recorded
    steps(5, torch.ones(4, 3))
    assert recordings == [2]
    steps(CALLS_BEFORE, torch.ones(2, 3))
    assert recordings == [2]
    steps(1, torch.ones(2, 3))
    assert recordings == [2, 2]
    model.weight.data = model.weight.data.clone()
    steps(CALLS_BEFORE, torch.ones(2, 3))
    assert recordings == [2, 2]
    steps(1, torch.ones(2, 3))
    assert recordings == [2, 2, 2]
    model.bias.requires_grad_(False)
    steps(CALLS_BEFORE + 1, torch.ones(2, 3))
    assert recordings == [2, 2, 2, 2]
    model.eval()
    steps(CALLS_BEFORE + 1, torch.ones(2, 3))
    assert recordings == [2, 2, 2, 2, 2]
    model.weight = torch.nn.Parameter(model.weight.detach().clone())
    steps(CALLS_BEFORE + 1, torch.ones(2, 3))
    assert recordings == [2, 2, 2, 2, 2, 2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)  # on which sums are others
    steps(CALLS_BEFORE + 1, torch.ones(2, 3))
    assert recordings == [2, 2, 2, 2, 2, 2, 2]


def test_a_weight_of_the_kl_part_may_be_on_the_device():
    """A graph reads it there."""
    terms = Surrogate(*torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).unbind(0))
    for weight in (0.0, 0.3, 1.0):
        torch.testing.assert_close(terms.loss(torch.tensor(weight)), terms.loss(weight))


# Steps on the processor -----------------------------------------------------------------------------------------------

SMALL = ["model.latent.sizes=[4,4]", "model.network.hidden=[16]"]
TINY = ["model.circuit.qubits=3", "model.circuit.layers=1", "model.network.hidden=[16]"]
DISCRETE = [*TINY, "model.variant=discrete"]
FAMILIES = {
    "rbm": ["digits", *SMALL],
    "copies of weights": ["digits", "model.latent.sizes=[32,32]", "model.network.hidden=[256]", "training.clip_norm=null"],
    "two levels": ["digits", *SMALL, "model.posterior.levels=2"],
    "complete graph": ["digits", "model.latent.graph=complete", "model.latent.sizes=[8]", "model.network.hidden=[16]"],
    "overlapping": ["digits", *SMALL, "model.relaxation.kind=overlapping"],
    "spike": ["digits", *SMALL, "model.relaxation.kind=spike-exponential"],
    "convolutions": ["digits", *SMALL, "model.network.kind=conv", "model.network.hidden=[4,8]"],
    "corrupted": ["digits", *SMALL, "training.corruption=hidden"],
    "no batch norm": ["digits", *SMALL, "model.network.batch_norm=false", "model.network.activation=gelu"],
    "transverse field": [
        *("digits-quantum", "model.latent.sizes=[4]", "model.latent.train_gamma=false", "training.prior_gradient=sampled"),
    ],
    "vqvae": ["digits-vqvae", *TINY],
    "deterministic": ["digits-vqvae", *TINY, "model.variant=deterministic"],
    "gaussian": ["digits-vqvae", *TINY, "model.circuit.arm=gaussian"],
    "discrete": ["digits-vqvae", *DISCRETE],
    "relaxed": ["digits-vqvae", *DISCRETE, "model.discrete.prior=boltzmann", "model.discrete.gradient=relaxed"],
}  # fmt: skip


def steps_of(name, number=9, precision="bfloat16"):
    """An objective after so many steps, their figures, and the state of torch's own generator."""
    torch.manual_seed(5)
    preset, *settings = FAMILIES[name]
    config = qvae.load_config(preset, [*settings, f"training.precision={precision}", "training.device=cpu"])
    parts = assemble(Path("unused"), config)
    rows = parts.dataset.train[: 16 * number].flatten(1).split(16)
    found = [parts.objective.step(x, Clock(k, 1, k / number)) for k, x in enumerate(rows)]
    return parts.objective, torch.stack(found), torch.get_rng_state()


def assert_the_same(one, other):
    (first, figures, state), (second, expected, other_state) = one, other
    assert torch.equal(figures, expected)
    assert torch.equal(state, other_state)
    assert torch.equal(first.generator.get_state(), second.generator.get_state())
    for key, value in second.model.state_dict().items():
        assert torch.equal(first.model.state_dict()[key], value), key


def is_played(objective):
    return objective._replay._recorder._recorded is not None


@pytest.fixture
def by_python(monkeypatch):
    """Makes steps without a replay."""

    def steps(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr("qvae.training.objectives.replay.record", lambda works, owned: None)
            made = steps_of(*arguments)
        assert not is_played(made[0])
        return made

    return steps


@pytest.mark.parametrize("name", FAMILIES)
def test_steps_that_are_played_again_are_those_that_python_makes(name, by_python):
    """Bit by bit: a run that is interrupted would end elsewhere otherwise."""
    played = steps_of(name)
    assert is_played(played[0])
    assert_the_same(played, by_python(name))


def test_copies_of_weights_take_gradients_then_too(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    pytest.importorskip("numba")
    objective, *_ = steps_of("copies of weights")
    assert is_played(objective)
    assert objective._halves.of
    assert all(half._copied == half._marks() for half in objective._halves.of.values())


def test_steps_in_single_precision_and_by_torch_s_kernels_are_played_again(monkeypatch, by_python):
    monkeypatch.setattr("qvae.models.passes.load_passes", lambda device: None)
    played = steps_of("rbm", 9, "float32")
    assert is_played(played[0])
    assert_the_same(played, by_python("rbm", 9, "float32"))


LOSS, ENERGY, CALLS = Surrogate.loss, expected_energy, itertools.count()


def looking(self, weight):
    """At a number, on which what follows may depend."""
    return LOSS(self, weight) * (1.0 if float(self.entropy.detach().sum()) > 0 else 2.0)


def by_rows(self, weight):
    return LOSS(self, weight) * self.energy.detach().numpy().mean().item()


def by_draws(self, weight):
    return LOSS(self, weight) * (1 + torch.rand(1).tolist()[0])


def by_weight(self, weight):
    return LOSS(self, weight) + weight * self.entropy.mean() * (weight.numpy().item() if torch.is_tensor(weight) else weight)


def counting(self, weight):
    return LOSS(self, weight) * (1.0 + 0.01 * next(CALLS))


def counting_in_terms(self, weight):
    found = LOSS(self, weight)
    self.entropy = self.entropy + next(CALLS)
    return found


@pytest.mark.parametrize("loss", [looking, by_rows, by_draws, by_weight, counting, counting_in_terms])
def test_steps_that_depend_on_what_torch_does_not_do_are_made_by_python(loss, by_python, monkeypatch):
    monkeypatch.setattr(Surrogate, "loss", loss)
    tried = steps_of("rbm")
    assert not is_played(tried[0])
    if not loss.__name__.startswith("counting"):
        assert_the_same(tried, by_python("rbm"))


def test_steps_that_write_by_other_means_are_made_by_python(by_python, monkeypatch):
    def energy(model, hamiltonian, code):
        model.encoder.mean_image.numpy()[0] += 1
        return ENERGY(model, hamiltonian, code)

    monkeypatch.setattr("qvae.training.objectives.surrogate.expected_energy", energy)
    tried = steps_of("rbm")
    assert not is_played(tried[0])
    assert_the_same(tried, by_python("rbm"))


def test_who_watches_sees_every_step():
    objective, *_ = steps_of("rbm")
    assert is_played(objective)
    rows, seen = torch.zeros(16, 64, dtype=torch.int16), []
    watched = (
        lambda: objective.model.encoder.register_forward_hook(lambda *arguments: seen.append(1)),
        lambda: objective.model.decoder.register_full_backward_hook(lambda *arguments: seen.append(1)),
        lambda: objective.prior.h.register_hook(lambda gradient: seen.append(1)),
        lambda: objective.prior.J.register_post_accumulate_grad_hook(lambda parameter: seen.append(1)),
    )
    for watch in watched:
        seen.clear()
        handle = watch()
        for step in range(3):
            objective.step(rows, Clock(step, 1, 0.5))
        handle.remove()
        assert len(seen) == 3
        objective.step(rows, Clock(3, 1, 0.5))
        assert len(seen) == 3
    assert is_played(objective)


def test_a_watcher_of_a_circuit_sees_every_step():
    objective, *_ = steps_of("vqvae")
    assert is_played(objective)
    seen = []
    objective._layer.watchers.append(lambda *arguments: seen.append(1))
    objective.step(torch.zeros(16, 64, dtype=torch.int16), Clock(1, 1, 0.5))
    assert seen


def test_anomalies_are_looked_for_where_python_makes_the_step(monkeypatch):
    objective, *_ = steps_of("rbm")
    monkeypatch.setattr("qvae.ising.tape.Tape.replay", lambda self: pytest.fail("nothing would be found"))
    with torch.autograd.detect_anomaly(check_nan=False):
        objective.step(torch.zeros(16, 64, dtype=torch.int16), Clock(1, 1, 0.5))


def test_kernels_that_are_switched_off_stay_so(monkeypatch):
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    assert not is_played(steps_of("rbm")[0])


def test_an_executor_that_measures_is_not_recorded(monkeypatch):
    """Each of its calls may be billed."""
    capabilities = ExecutorCapabilities(differentiable=True)
    monkeypatch.setattr("qvae_backends.statevector.StatevectorExecutor.capabilities", capabilities)
    assert steps_of("vqvae", 1)[0]._replay is None
