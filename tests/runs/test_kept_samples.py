"""Samples that a run keeps belong to its prior, and to a sampler with its options."""

import torch

import qvae
from qvae import workflow
from qvae.checkpoint import load_checkpoint
from qvae.sampling.info import Advice
from qvae.sampling.sampler import Samples, SeededSampler


def test_they_are_drawn_again_by_another_sampler_or_with_other_options(small_run):
    run = qvae.load_run(small_run)
    first = run.prior_spins(50)
    assert run.samples_warning is None  # nothing is wrong with them
    assert qvae.load_run(small_run).prior_spins(50).equal(first)
    for change in ("generation.sampler={name: exact}", "generation.sampler={name: gibbs, options: {sweeps: 3}}"):
        assert not qvae.load_run(small_run, [change]).prior_spins(50).equal(first)
        assert qvae.load_run(small_run, [change]).prior_spins(50).equal(qvae.load_run(small_run, [change]).prior_spins(50))


def test_they_are_of_the_prior_as_it_is_now(small_run):
    qvae.load_run(small_run).prior_spins(50)
    before = load_checkpoint(small_run / "prior_samples.safetensors")
    run = workflow.resume(small_run, ["training.epochs=4"])
    after = load_checkpoint(small_run / "prior_samples.safetensors")
    assert not after["J"].equal(before["J"])
    assert after["J"].equal(run.model.prior.frozen().J)
    assert after["sampler"] == "gibbs"


def test_they_are_of_its_transverse_field(small_run):
    exact = ["generation.sampler={name: exact}"]
    first = qvae.load_run(small_run, exact).prior_spins(50)
    run = qvae.load_run(small_run, exact)
    prior = run.model.prior
    prior._template = qvae.IsingHamiltonian(prior.h.detach(), prior.graph, prior.J.detach(), 3.0)
    assert not run.prior_spins(50).equal(first)
    assert load_checkpoint(small_run / "prior_samples.safetensors")["gamma"].tolist() == [3.0] * 8


class Stuck(SeededSampler):
    """Has something to say of its samples."""

    def _sample(self, hamiltonian, num_samples):
        spins = torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8)
        return Samples(spins, advise=lambda info: [Advice("chains", "they are stuck"), Advice("beta", "they are cold")])


def test_what_is_wrong_with_them_is_told_whenever_they_are_used_and_their_damage_beside_it(small_run):
    (small_run / "prior_samples.safetensors").unlink(missing_ok=True)
    said = []
    for damaged in (False, False, True, False):
        if damaged:
            (small_run / "prior_samples.safetensors").write_bytes(b"nothing")
        run = qvae.load_run(small_run)
        run.sampler = lambda: Stuck(seed=0)
        assert run.prior_spins(10).shape == (10, 8)
        said.append(run.samples_warning)
    trouble = "they are stuck; they are cold"
    damage = "prior_samples.safetensors was damaged, so they were drawn again"
    assert said == [trouble, trouble, f"{damage}; {trouble}", trouble]


def test_more_than_are_kept_are_drawn_unless_fewer_will_do(small_run):
    run = qvae.load_run(small_run, ["generation.sampler={name: exact}"])
    counts = [(20, False), (30, True), (30, False), (10, False), (40, True)]
    assert [len(run.prior_spins(count, or_fewer)) for count, or_fewer in counts] == [20, 20, 30, 10, 30]
