"""The loop: exact resume, schedules, averaging, interrupts and signs of trouble."""

import json
import random
import signal
import time

import numpy as np
import pytest
import torch
from support import model_of

from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import CapabilityError, ConfigError, SamplerError
from qvae.sampling.abilities import Metered, Remote
from qvae.sampling.chains import mixing_advice
from qvae.sampling.metering import Meter
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples
from qvae.training.devices import choose_device
from qvae.training.metrics import Metrics, TrainingDiverged
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.schedules import kl_weight
from qvae.training.trainer import Trainer


def dataset(count=200, binarize="dynamic"):
    generator = np.random.default_rng(0)
    bars = generator.integers(0, 2, (count, 1, 4)) * np.ones((1, 4, 1))
    return dataset_from_arrays(np.clip(0.1 + 0.8 * bars, 0, 1).astype(np.float32), binarize=binarize)


def trainer(sampler="gibbs", metrics=None, latent=None, gamma=0.0, **training):
    torch.manual_seed(0)
    settings = {"epochs": 4, "batch_size": 32, "warmup_steps": 3, "chains": 20} | training
    data = dataset()
    latent = latent or {"graph": "rbm", "sizes": [3, 3], "gamma": gamma}
    model = model_of(ModelConfig(latent=latent, network={"hidden": [8]}), data.mean())
    chosen = load_sampler(sampler, seed=1) if isinstance(sampler, str) else sampler
    config = TrainingConfig(**settings)
    return Trainer(BoltzmannObjective(model, data.prepare, config, chosen), data, config, metrics)


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.state_dict().values()])


@pytest.mark.parametrize("stop_at", [1, 6, 7, 13])
@pytest.mark.parametrize("sampler", ["gibbs", "exact", "dimod"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, sampler, stop_at):
    whole = trainer(sampler)
    whole.fit()
    first = trainer(sampler)
    stop_after(first, stop_at)
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert first.step == stop_at
    save_checkpoint(tmp_path / "c", first.state_dict())
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    second = trainer(sampler)
    second.load_state_dict(load_checkpoint(tmp_path / "c"))
    second.fit()
    assert second.step == whole.step
    assert torch.equal(weights(second.model), weights(whole.model))
    assert all(torch.equal(a, b) for a, b in zip(second.average.values, whole.average.values, strict=True))
    assert torch.equal(weights(second.averaged_model()), weights(whole.averaged_model()))


def stop_after(trainer, step):
    """Send the process a Ctrl-C at the beginning of a step: it is to be done, saved, and then obeyed."""
    take = trainer._train_step

    def interrupted(images):
        if trainer.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        take(images)

    trainer._train_step = interrupted


class GlobalSampler(LatentSampler):
    """Draws from the global generators of torch, NumPy and Python, as a third party's may."""

    def _sample(self, hamiltonian, num_samples):
        shape = (num_samples, hamiltonian.num_spins)
        bits = torch.rand(shape) < 0.5
        bits ^= torch.from_numpy(np.random.random(shape) < 0.5)  # noqa: NPY002
        bits[0] ^= random.random() < 0.5
        return Samples((2 * bits - 1).to(torch.int8))


@pytest.mark.parametrize("spoilt", ["torch", "numpy", "python"])
def test_a_sampler_that_draws_from_global_generators_resumes_with_the_same_bits(spoilt):
    def begin():
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)

    begin()
    whole = trainer(GlobalSampler())
    whole.fit()
    begin()
    first = trainer(GlobalSampler())
    stop_after(first, 7)
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    state = first.state_dict()
    second = trainer(GlobalSampler())
    {"torch": torch.manual_seed, "numpy": np.random.seed, "python": random.seed}[spoilt](99)
    second.load_state_dict(state)
    second.fit()
    assert torch.equal(weights(second.model), weights(whole.model))


def test_a_remote_step_that_failed_is_made_again_as_if_for_the_first_time():
    class Far(Remote, HotSampler):
        capabilities = Capabilities(remote=True)
        broken = False

        def describe(self):
            return {}

        def _sample(self, hamiltonian, num_samples):
            if self.broken:
                raise SamplerError("the annealer is offline.")
            return super()._sample(hamiltonian, num_samples)

    runs = [trainer(Far()), trainer(Far())]
    rows = next(runs[0]._batches())
    before = weights(runs[0].model).clone()
    runs[0].objective.sampler.broken = True
    with pytest.raises(SamplerError):
        runs[0].objective.step(rows, runs[0].clock)
    assert torch.equal(weights(runs[0].model), before)  # running means and variances, too
    runs[0].objective.sampler.broken = False
    for run in runs:
        run.objective.step(rows, run.clock)
    assert torch.equal(weights(runs[0].model), weights(runs[1].model))


def test_training_lowers_the_surrogate_and_learns_the_prior(tmp_path):
    run = trainer(metrics=Metrics(tmp_path / "metrics.jsonl"), epochs=60, learning_rate=1e-2)
    run.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 61))
    assert rows[-1]["reconstruction"] < rows[0]["reconstruction"] - 1
    looks = [row["surrogate"] for row in rows if "surrogate" in row]
    assert 8 <= len(looks) <= 9
    assert looks[-1] < looks[1]
    assert run.model.prior.J.abs().max() > 0.1
    assert {"kl", "log_z", "effective_beta", "chain_memory", "learning_rate"} <= set(rows[-1])


def test_interrupted_training_saves_before_it_stops():
    saved, before = [], signal.getsignal(signal.SIGINT)
    run = trainer()
    run.save = lambda trainer: saved.append(trainer.step)
    stop_after(run, 3)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert saved == [3]
    assert signal.getsignal(signal.SIGINT) is before


def test_seeds_make_runs_repeat_and_differ():
    runs = [trainer(seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        run.fit()
    assert torch.equal(weights(runs[0].model), weights(runs[1].model))
    assert not torch.equal(weights(runs[0].model), weights(runs[2].model))


def test_learning_rate_rises_then_falls_to_zero_and_kl_weight_rises_to_one():
    run = trainer(epochs=10, warmup_steps=10, kl_warmup=0.4, learning_rate=1.0, prior_learning_rate=2.0)
    rates, weights_of_kl = [], []
    for step in range(run.total_steps):
        run.step = step
        run.objective._set_learning_rates(run.clock)
        rates.append([group["lr"] for group in run.objective.optimizer.param_groups])
        weights_of_kl.append(kl_weight(run.config, run.clock))
    first, prior = np.array(rates).T
    assert np.allclose(prior, 2 * first)
    assert np.all(np.diff(first[:10]) > 0)
    assert np.all(np.diff(first[12:]) < 0)
    assert first[-1] < 0.01
    warmup = 4 * run.steps_per_epoch
    assert np.allclose(weights_of_kl[:warmup], np.arange(warmup) / warmup)
    assert set(weights_of_kl[warmup:]) == {1.0}


def test_kl_weight_rises_from_its_start():
    run = trainer(epochs=10, kl_start=0.3, kl_warmup=0.5)
    middle = run.total_steps // 2
    for step, weight in ((0, 0.3), (middle // 2, 0.3 + 0.7 * (middle // 2) / (run.total_steps / 2)), (middle, 1.0)):
        run.step = step
        assert kl_weight(run.config, run.clock) == pytest.approx(weight)


def test_a_resumed_run_counts_the_seconds_of_before():
    run = trainer(max_seconds=1000.0)
    run.load_state_dict(run.state_dict() | {"seconds": 400.0})
    run.fit()
    assert 400 < run.seconds < 600
    spent = trainer(max_seconds=100.0)
    spent.load_state_dict(spent.state_dict() | {"seconds": 100.5, "step": 1})
    spent.fit()
    assert spent.step == 1


def test_training_stops_after_its_seconds():
    run = trainer(epochs=100_000, max_seconds=0.3)
    run.fit()
    assert 0 < run.step < run.total_steps
    assert run.seconds >= 0.3
    assert run.progress == 1.0


def test_a_surrogate_that_is_not_finite_stops_training_and_keeps_the_last_checkpoint():
    saved = []
    run = trainer(learning_rate=1e30, clip_norm=None, warmup_steps=0, checkpoint_seconds=1e-9)
    run.save = lambda trainer: saved.append(all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters()))
    with pytest.raises(TrainingDiverged, match="lower training.learning_rate"):
        run.fit()
    assert all(saved)


class HotSampler(LatentSampler):
    """Samples at beta = 0.3."""

    capabilities = Capabilities()

    def _sample(self, hamiltonian, num_samples):
        from qvae.ising.exact import exact_distribution

        hot = hamiltonian.replace(h=0.3 * hamiltonian.h, J=0.3 * hamiltonian.J)
        return Samples(exact_distribution(hot).sample(num_samples, torch.Generator().manual_seed(0)))


def test_a_sampler_that_fails_costs_the_step_in_flight_and_no_more():
    class Failing(HotSampler):
        def _sample(self, hamiltonian, num_samples):
            if run.step == 7:
                raise SamplerError("the annealer is offline.")
            return super()._sample(hamiltonian, num_samples)

    saved = []
    run = trainer(Failing())
    run.save = lambda trainer: saved.append(trainer.step)
    with pytest.raises(SamplerError):
        run.fit()
    assert saved == [7]


def test_an_epoch_at_whose_end_the_sampler_failed_is_not_lost(tmp_path):
    class Failing(HotSampler):
        broken = True

        def _sample(self, hamiltonian, num_samples):
            if self.broken and num_samples == 20 and run.step == run.total_steps:
                raise SamplerError("the annealer is offline.")
            return super()._sample(hamiltonian, num_samples)

    sampler = Failing()
    run = trainer(sampler, Metrics(tmp_path / "metrics.jsonl"))
    with pytest.raises(SamplerError):
        run.fit()
    state = run.state_dict()
    sampler.broken = False
    run = trainer(sampler, Metrics(tmp_path / "metrics.jsonl"))
    run.load_state_dict(state)
    run.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


class Spender(Metered, HotSampler):
    """A call costs a second of QPU time."""

    def __init__(self, budget):
        self.meter, self.closed = Meter(budget), False

    def price(self, hamiltonian, num_samples):
        return 1.0

    def _sample(self, hamiltonian, num_samples):
        samples = self.pay(1.0, lambda: (super(Spender, self)._sample(hamiltonian, num_samples), 1.0))
        samples.info |= {"qpu_seconds": 1.0, "device_beta": 0.3, "clipped": 0.0}
        return samples

    def close(self):
        self.closed = True


@pytest.mark.parametrize("budget", [3, 6, 13])
def test_a_budget_ends_training_cleanly_and_schedules_follow_it(tmp_path, budget):
    saved = []
    run = trainer(Spender(budget), Metrics(tmp_path / "metrics.jsonl"), epochs=50, kl_warmup=0.5)
    run.save = lambda trainer: saved.append(trainer.step)
    run.fit()
    assert run.is_finished
    assert saved[-1] == run.step
    assert 0 < run.step <= budget
    assert kl_weight(run.config, run.clock) == 1.0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["qpu_seconds"] == rows[-1]["qpu_seconds_per_call"] * budget == budget
    assert [warning.partition(":")[0] for warning in run.metrics.warnings] == ["budget"]


def test_a_fallback_takes_over_the_step_in_flight_and_says_so():
    primary = Spender(10)
    run = trainer(primary, epochs=4)
    primary.sample = lambda hamiltonian, number: (_ for _ in ()).throw(SamplerError("it is offline."))
    run.objective.fallback = load_sampler("exact", seed=0)
    run.fit()
    assert run.step == run.total_steps
    assert primary.closed
    assert "it is offline. Training goes on with the fallback, 'exact', from step 0" in run.metrics.warnings[0]
    assert run.state_dict()["sampler"] == {}  # a resumed run tries the chosen one again


def test_what_the_sampler_can_t_do_is_found_before_training():
    with pytest.raises(CapabilityError, match="transverse field.*exact"):
        trainer(gamma=1.0)


def test_an_unknown_cuda_device_is_refused():
    with pytest.raises(ConfigError, match="CUDA devices"):
        choose_device("cuda:7")


class StuckSampler(LatentSampler):
    """Always the same chains."""

    capabilities = Capabilities(persistent=True)

    def _sample(self, hamiltonian, num_samples):
        spins = torch.randint(0, 2, (num_samples, hamiltonian.num_spins), generator=torch.Generator().manual_seed(0))
        return Samples((2 * spins - 1).to(torch.int8))


class GlassySampler(LatentSampler):
    """Perfect samples, of which it says that its chains never left their modes."""

    def _sample(self, hamiltonian, num_samples):
        spins = load_sampler("exact", seed=0).sample(hamiltonian, num_samples).spins
        return Samples(spins, info={"burn_in_memory": 0.9, "burn_in_memory_stderr": 0.02}, advise=mixing_advice)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (HotSampler(), "effective inverse temperature"),
        (StuckSampler(), "stopped mixing"),
        (GlassySampler(), "fresh chains are stuck"),
    ],
)
def test_trouble_is_said_once_in_words(sampler, words):
    metrics = Metrics()
    run = trainer(sampler, metrics=metrics, epochs=40, chains=2000, prior_learning_rate=0.05)
    run.fit()
    assert sum(words in warning for warning in metrics.warnings) == 1


def test_a_good_sampler_raises_no_warning():
    metrics = Metrics()
    trainer("exact", metrics=metrics, epochs=40, chains=500, prior_learning_rate=0.05).fit()
    assert metrics.warnings == []


def test_batch_norm_statistics_are_those_of_discrete_latents():
    run = trainer(epochs=2)
    run.fit()
    model = run.averaged_model()
    assert not model.training
    generator = torch.Generator().manual_seed(0)
    images = run.objective.prepare(run.rows, generator)
    hidden = model.decoder.layers[0][0](model.encode(images.unflatten(1, model.shape), generator))
    norm = model.decoder.layers[0][1]
    torch.testing.assert_close(norm.running_mean, hidden.mean(0), atol=0.15, rtol=0.1)


def test_remote_samplers_work_while_the_networks_do():
    events = []

    class Far(Remote, HotSampler):
        capabilities = Capabilities(remote=True)

        def describe(self):
            return {}

        def submit(self, hamiltonian, num_samples):
            future = super().submit(hamiltonian, num_samples)
            events.append("submit")
            result = future.result
            future.result = lambda *a: (events.append("collect"), result())[1]
            return future

    run = trainer(Far(), epochs=1)
    encode = run.model.encoder.forward
    run.model.encoder.forward = lambda images: (events.append("encode"), encode(images))[1]
    run._train_step(next(run._batches()))
    assert events == ["submit", "encode", "collect"]


class Idler:
    """An observer that takes its time."""

    def __init__(self, every):
        self.every, self.seen = every, []

    def is_due(self, epoch):
        return epoch % self.every == 0

    def observe(self, model, epoch, loss):
        time.sleep(0.05)
        self.seen.append((epoch, loss))

    def state_dict(self):
        return {"seen": [list(pair) for pair in self.seen]}

    def load_state_dict(self, state):
        self.seen = [tuple(pair) for pair in state["seen"]]


def test_an_observer_sees_the_epochs_it_asks_for_and_the_last():
    watched = trainer(epochs=5)
    watched.observer = Idler(2)
    watched.fit()
    assert [epoch for epoch, _ in watched.observer.seen] == [2, 4, 5]
    assert all(loss.startswith("surrogate ") for _, loss in watched.observer.seen)
    assert watched.state_dict()["observer"] == watched.observer.state_dict()


def test_an_observer_doesn_t_change_the_training():
    plain, watched = trainer(epochs=9), trainer(epochs=9)
    watched.observer = Idler(1)
    plain.fit()
    watched.fit()
    assert torch.equal(weights(plain.model), weights(watched.model))


def test_looking_is_not_counted_as_training():
    watched = trainer(epochs=4)
    watched.observer = Idler(1)
    started = time.perf_counter()
    watched.fit()
    assert time.perf_counter() - started - watched.seconds > 4 * 0.05


def test_the_parts_of_a_step_are_timed(tmp_path):
    trainer(metrics=Metrics(tmp_path / "metrics.jsonl")).fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    parts = {"ms_forward", "ms_negative_phase", "ms_backward", "ms_optimizer"}
    assert parts <= set(rows[0])
    assert all(rows[0][part] > 0 for part in parts)


def test_exact_training_learns_the_transverse_field_and_needs_no_samples():
    class Refusing(LatentSampler):
        capabilities = Capabilities(transverse_field=True)
        asked = 0

        def _sample(self, hamiltonian, num_samples):
            self.asked += 1
            return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))

    sampler = Refusing()
    exact = trainer(
        sampler, latent={"graph": "complete", "sizes": [4], "gamma": 1.0, "train_gamma": True}, prior_gradient="exact", epochs=5
    )
    exact.fit()
    assert sampler.asked <= exact.config.epochs  # looks at the ends of epochs alone
    assert (exact.model.prior.log_gamma.exp() - 1).abs().max() > 1e-3
    assert not torch.equal(exact.averaged_model().prior.log_gamma, torch.zeros(4))


def test_exact_training_of_many_spins_is_refused():
    with pytest.raises(ConfigError, match="at most 10 latent spins, but model.latent has 12"):
        trainer(latent={"graph": "complete", "sizes": [12]}, prior_gradient="exact")


def test_a_trained_gamma_must_start_above_zero():
    with pytest.raises(ValueError, match="must start above 0"):
        trainer(latent={"graph": "complete", "sizes": [3], "gamma": [0.0, 1.0, 1.0], "train_gamma": True})


def test_statistics_settle_on_rows_from_everywhere_in_the_file(monkeypatch):
    """Classes may stand together there."""
    monkeypatch.setattr("qvae.training.trainer._SETTLING_ROWS", 20)
    run, seen = trainer(epochs=1), []
    run.objective.settle = lambda model, rows, batch_size: seen.append(rows)
    run.rows = torch.arange(200).unsqueeze(1)
    run.averaged_model()
    places = seen[0].flatten().tolist()
    assert len(places) == 20
    assert min(places) < 50
    assert max(places) > 150
