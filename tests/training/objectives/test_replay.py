"""What is played again, and when it is recorded. On CUDA, that it is right is tested where there is a GPU."""

import copy
import functools
import gc
import itertools
import pickle
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune as prune_

import qvae
from qvae.circuits.executor import ExecutorCapabilities
from qvae.data.corruption import Corruption
from qvae.ising import recorded
from qvae.ising.compiled import random_word_tensor
from qvae.ising.recorded import CALLS_BEFORE
from qvae.ising.tape import Tape
from qvae.models.passes import load_passes
from qvae.models.relaxation import Gumbel
from qvae.runs.assemble import assemble
from qvae.training.objective import Clock
from qvae.training.objectives.replay import Replay
from qvae.training.objectives.surrogate import Surrogate, expected_energy, surrogate


@pytest.fixture
def recordings(monkeypatch):
    """How often something was to be recorded, which never succeeds here."""
    asked = []
    monkeypatch.setattr("qvae.training.objectives.replay.record", lambda works, owned: asked.append(len(works)))
    monkeypatch.setattr(recorded, "CALLS_BETWEEN", 0)
    return asked


def test_steps_are_recorded_once_they_have_been_the_same_for_a_while(recordings, monkeypatch):
    model = torch.nn.Linear(3, 1)
    replay = Replay(model, torch.Generator())

    def steps(number, rows):
        for _ in range(number):
            terms, loss = replay.loss(lambda rows: Surrogate(*model(rows).expand(-1, 3).unbind(1)), rows, 0.5)
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
    """Whether the last step was."""
    replay = objective._replay
    return replay._parts.are_known and not replay._parts.is_watched and replay._recorder._recorded is not None


def go_on(objective, number=1):
    """As many steps more, of the same rows."""
    rows = torch.arange(64).remainder(5).sub(2).to(torch.int16).expand(16, 64) * 4000
    return [objective.step(rows, Clock(step, 1, 0.5)).clone() for step in range(number)]


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


def test_steps_that_cannot_be_played_are_made_by_python(by_python, monkeypatch):
    monkeypatch.setattr(Tape, "replay", lambda self: torch.empty(2).copy_(torch.ones(3)))
    tried = steps_of("rbm")
    assert not is_played(tried[0])
    assert_the_same(tried, by_python("rbm"))


def test_steps_whose_draws_python_looks_at_are_made_by_python(by_python, monkeypatch):
    def looks_at_draws(generator):
        return torch.from_numpy(random_word_tensor(generator).numpy().copy())

    monkeypatch.setattr("qvae.models.passes.random_word_tensor", looks_at_draws)
    tried = steps_of("rbm")
    assert not is_played(tried[0]) or not load_passes(torch.device("cpu"))
    assert_the_same(tried, by_python("rbm"))


def test_steps_that_write_by_other_means_are_made_by_python(by_python, monkeypatch):
    def energy(model, hamiltonian, code):
        model.encoder.mean_image.numpy()[0] += 1
        return ENERGY(model, hamiltonian, code)

    monkeypatch.setattr("qvae.training.objectives.surrogate.expected_energy", energy)
    tried = steps_of("rbm")
    assert not is_played(tried[0])
    assert_the_same(tried, by_python("rbm"))


def listener(whose):
    """A function that seems to be written in this module, and what it adds to in each of its calls."""
    seen = []

    def listen(*arguments):
        seen.append(1)

    listen.__module__ = whose
    return listen, seen


@pytest.mark.parametrize("whose", ["qvae.training.gradient_norms", __name__])
def test_who_watches_sees_every_step(whose, monkeypatch):
    monkeypatch.setattr(recorded, "CALLS_BETWEEN", 0)
    objective, *_ = steps_of("rbm")
    assert is_played(objective)
    hook, seen = listener(whose)
    watched = (
        lambda: objective.model.encoder.register_forward_hook(hook),
        lambda: objective.model.decoder.register_full_backward_hook(hook),
        lambda: objective.prior.h.register_hook(hook),
        lambda: torch.nn.modules.module.register_module_forward_hook(hook),
        lambda: objective.prior.J.register_post_accumulate_grad_hook(hook),
    )
    for watch in watched:
        seen.clear()
        handle = watch()
        go_on(objective, CALLS_BEFORE + 4)
        handle.remove()
        assert (calls := len(seen)) >= CALLS_BEFORE + 4
        assert calls % (CALLS_BEFORE + 4) == 0
        go_on(objective, CALLS_BEFORE + 4)
        assert len(seen) == calls
        assert is_played(objective)


@pytest.mark.parametrize("whose", ["qvae.training.circuit_time", __name__])
def test_a_watcher_of_a_circuit_sees_every_step(whose, monkeypatch):
    monkeypatch.setattr(recorded, "CALLS_BETWEEN", 0)
    objective, *_ = steps_of("vqvae")
    assert is_played(objective)
    watcher, seen = listener(whose)
    objective._layer.watchers.append(watcher)
    go_on(objective, CALLS_BEFORE + 4)
    assert len(seen) == CALLS_BEFORE + 4


def test_anomalies_are_looked_for_where_python_makes_the_step(monkeypatch):
    objective, *_ = steps_of("rbm")
    monkeypatch.setattr("qvae.ising.tape.Tape.replay", lambda self: pytest.fail("nothing would be found"))
    with torch.autograd.detect_anomaly(check_nan=False):
        go_on(objective)


def test_kernels_that_are_switched_off_stay_so(monkeypatch):
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    assert not is_played(steps_of("rbm")[0])


def test_an_executor_that_measures_is_not_recorded(monkeypatch):
    """Each of its calls may be billed."""
    capabilities = ExecutorCapabilities(differentiable=True)
    monkeypatch.setattr("qvae_backends.statevector.StatevectorExecutor.capabilities", capabilities)
    assert steps_of("vqvae", 1)[0]._replay is None


# What is set to something else ----------------------------------------------------------------------------------------


class OwnLinear(torch.nn.Linear):
    """A user's, of which nobody knows what it does from step to step."""


class OwnGumbel(Gumbel):
    """Whose temperature falls with every call."""

    def sample(self, logits, generator=None):
        self.temperature *= 0.99
        return super().sample(logits, generator)


def own_surrogate(*arguments):
    found = surrogate(*arguments)
    return replace(found, entropy=found.entropy * next(CALLS))


def anneal(objective):
    objective.model.relaxation.temperature = 0.2


def set_momentum(objective):
    objective.model.encoder.layers[1].momentum = 0.5


def swap_activation(objective):
    objective.model.encoder.layers[2] = torch.nn.Tanh()


def swap_buffer(objective):
    norm = objective.model.encoder.layers[1]
    norm.running_mean = torch.full_like(norm.running_mean, 3.0)


def write_buffer(objective):
    norm = objective.model.encoder.layers[1]
    norm.running_mean.data = torch.full_like(norm.running_mean, 3.0)


def patch_forward(objective):
    encoder = objective.model.encoder
    encoder.forward = lambda inputs: 2 * type(encoder).forward(encoder, inputs)


def prune(objective):
    prune_.l1_unstructured(objective.model.encoder.layers[0], "weight", 0.5)


def normalise_weights(objective):
    torch.nn.utils.parametrizations.weight_norm(objective.model.decoder.layers[0][0])


def own_module(objective):
    objective.model.encoder.layers[2] = torch.nn.Sequential(OwnLinear(16, 16), torch.nn.SiLU())


def own_relaxation(objective):
    objective.model.relaxation = OwnGumbel(0.5)


def change_precision(objective):
    objective.bf16 = not objective.bf16


def corrupt(objective):
    objective.corruption = Corruption("hidden", 0.5, "bits", (8, 8), torch.zeros(64))


def freeze(objective):
    objective.model.encoder.layers[0].weight.requires_grad_(False)


CHANGES = {
    change: is_known
    for is_known, changes in (
        (True, (anneal, set_momentum, swap_activation, swap_buffer, write_buffer)),
        (True, (change_precision, corrupt, freeze, normalise_weights)),
        (False, (patch_forward, prune, own_module, own_relaxation)),
    )
    for change in changes
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_model_that_is_changed_in_the_middle_goes_on_as_by_python(change, monkeypatch, by_python):
    played, made = steps_of("rbm"), by_python("rbm")
    assert is_played(played[0])
    found = []
    for objective, *_ in (played, made):
        if objective is made[0]:
            monkeypatch.setattr("qvae.training.objectives.replay.record", lambda works, owned: None)
        torch.manual_seed(8)
        change(objective)
        monkeypatch.setattr(recorded, "CALLS_BETWEEN", 0)
        found.append((objective, torch.stack(go_on(objective, 7)), torch.get_rng_state()))
        assert is_played(objective) == (CHANGES[change] and objective is played[0])
    assert_the_same(*found)


@pytest.mark.parametrize("positive", [own_surrogate, functools.partial(own_surrogate), lambda *_: own_surrogate(*_)])
def test_a_loss_that_others_have_written_is_made_by_python(positive):
    objective, *_ = steps_of("rbm")
    assert is_played(objective)
    objective.positive = positive
    go_on(objective, 5)
    assert not is_played(objective)


def test_an_objective_that_others_have_written_is_made_by_python():
    objective, *_ = steps_of("rbm")

    class OwnObjective(type(objective)):
        def _terms(self, x, generator):
            return super()._terms(x, generator)

    objective.__class__ = OwnObjective
    go_on(objective, 5)
    assert not is_played(objective)


def test_a_step_without_gradients_fails_as_ever():
    objective, *_ = steps_of("rbm")
    with torch.no_grad(), pytest.raises(RuntimeError, match="does not require grad"):
        go_on(objective)


def test_precisions_from_around_are_kept(by_python):
    played, made = steps_of("rbm", 9, "float32"), by_python("rbm", 9, "float32")
    with torch.autocast("cpu", torch.bfloat16):
        figures = [torch.stack(go_on(objective, 3)) for objective in (played[0], made[0])]
    assert torch.equal(*figures)
    assert not torch.equal(figures[0], torch.stack(go_on(steps_of("rbm", 9, "float32")[0], 3)))


@pytest.mark.parametrize("name", ["rbm", "copies of weights"])
def test_a_copy_of_an_objective_is_on_its_own(name, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    objective, *_ = steps_of(name)
    for other in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
        before = copy.deepcopy(objective.model.state_dict())
        found = go_on(other, 6)
        assert is_played(other)
        for key, value in objective.model.state_dict().items():
            assert torch.equal(value, before[key]), key
        again = copy.deepcopy(objective)
        assert torch.equal(torch.stack(go_on(again, 6)), torch.stack(found))


def test_a_training_that_has_ended_keeps_no_tape(tmp_path, monkeypatch):
    tapes, replay = [], Tape.replay

    def noted(self):
        tapes.append(weakref.ref(self))
        replay(self)

    monkeypatch.setattr(Tape, "replay", noted)
    preset, *settings = FAMILIES["rbm"]
    parts = assemble(tmp_path, qvae.load_config(preset, [*settings, "training.epochs=1", "training.device=cpu"]))
    parts.trainer.save = lambda trainer: None
    parts.trainer.fit()
    gc.collect()
    assert tapes
    assert not any(tape() for tape in tapes)
