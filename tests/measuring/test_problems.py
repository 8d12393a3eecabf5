"""Problems by name: their sizes, their options, a user's own, and what is refused."""

import numpy as np
import pytest
import torch

from qvae.errors import ConfigError, DataError, RunError
from qvae.measuring.problems import DEFAULT_PROBLEMS, FAMILIES, make_problem


@pytest.mark.parametrize("spec", [*FAMILIES, *DEFAULT_PROBLEMS])
def test_every_family_makes_a_problem_that_can_be_told_again(spec):
    problem, again = make_problem(spec), make_problem(spec)
    assert problem.fingerprint == again.fingerprint
    assert f"{problem.hamiltonian.num_spins} spins" in problem.size
    assert problem.origin


def test_sizes_and_options():
    assert make_problem("rbm-weak:3x5").hamiltonian.graph.bipartite_sizes == (3, 5)
    assert make_problem("glass:6").hamiltonian.graph.num_edges == 15
    assert make_problem("glass:n=10,graph=regular").hamiltonian.graph.num_edges == 15
    assert make_problem("zephyr:2").hamiltonian.num_spins == make_problem("zephyr:m=2").hamiltonian.num_spins == 160
    quantum = make_problem("glass:n=6,gamma=0.5").hamiltonian
    assert quantum.is_quantum
    assert quantum.gamma.tolist() == [0.5] * 6


def test_critical_couplings():
    J = make_problem("rbm-critical:100x400").hamiltonian.J
    assert float(J.std()) * (100 * 400) ** 0.25 == pytest.approx(1, abs=5 / (2 * len(J)) ** 0.5)
    # (d - 1) tanh^2 J = 1 with three neighbours.
    assert float(make_problem("glass:n=8,graph=regular").hamiltonian.J.tanh().square()[0]) == pytest.approx(0.5)


def test_random_problems_by_hand():
    """Fields of a tenth, as many signs up as down, and strengths in units of the transition on a tree of the mean degree."""
    rbm = make_problem("rbm-weak:100x100").hamiltonian
    assert float(rbm.h.std()) == pytest.approx(0.1, rel=5 / 400**0.5)
    assert float(rbm.J.std()) == pytest.approx(0.5 / 10, rel=5 / (2 * 100**2) ** 0.5)
    glass = make_problem("glass:n=20,strength=0.5").hamiltonian  # 19 neighbours each
    assert not glass.h.any()
    assert np.allclose(glass.J.abs(), 0.5 * np.arctanh(18**-0.5))
    assert 60 < int((glass.J > 0).sum()) < 130  # of 190, with a standard deviation of 7
    native = make_problem("zephyr:2").hamiltonian
    degree = 2 * native.graph.num_edges / 160
    assert float(native.J.std()) == pytest.approx(0.7 * np.arctanh((degree - 1) ** -0.5), rel=5 / (2 * len(native.J)) ** 0.5)
    assert float(native.h.std()) == pytest.approx(0.1, rel=5 / 320**0.5)
    assert make_problem("glass:n=3").hamiltonian.J.abs().tolist() == [1.0] * 3  # a triangle never freezes


def test_problems_are_known_by_their_distributions():
    """Whatever they are called; a field or another size of the couplings makes them others."""
    same = [make_problem(text).fingerprint for text in ("rbm-weak:3x4", "rbm-weak:n1=3,n2=4,beta=1.0,gamma=0")]
    others = [make_problem(f"rbm-weak:3x4,{text}").fingerprint for text in ("beta=0.9", "gamma=0.1", "seed=2")]
    assert same[0] == same[1]
    assert len({*same, *others}) == 4
    assert make_problem("rbm-weak:3x4").size == "7 spins, 12 couplings"
    assert make_problem("rbm-weak:3x4,gamma=1").size == "7 spins, 12 couplings, transverse field"
    default = make_problem("rbm-critical").hamiltonian
    assert default.graph.bipartite_sizes == (64, 64)
    cold, hot = make_problem("trained-pegasus:beta=1").hamiltonian, make_problem("trained-pegasus").hamiltonian
    assert torch.allclose(hot.h, 0.2 * cold.h)


def test_beta_and_seed():
    one, half, other = (make_problem(f"rbm-weak:4x4{rest}").hamiltonian for rest in ("", ",beta=0.5", ",seed=1"))
    assert torch.equal(half.J, 0.5 * one.J)
    assert torch.equal(half.h, 0.5 * one.h)
    assert not torch.equal(other.J, one.J)
    assert make_problem("rbm-weak:4x4,seed=1").fingerprint != make_problem("rbm-weak:4x4").fingerprint


@pytest.mark.parametrize("family", ["rbm-critical:3x4", "glass:n=9", "glass:n=20,graph=regular", "zephyr:m=1", "pegasus:m=2"])
def test_seeds_decide_on_all_numbers(family):
    first, again, other = (make_problem(f"{family},seed={seed}") for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint
    assert not torch.equal(first.hamiltonian.J, other.hamiltonian.J)
    if not family.startswith("glass"):  # which has no fields
        assert not torch.equal(first.hamiltonian.h, other.hamiltonian.h)


def test_a_seed_decides_on_the_graph_of_a_regular_glass_too():
    first, again, other = (make_problem(f"glass:n=20,graph=regular,seed={seed}").hamiltonian for seed in (3, 3, 4))
    assert torch.equal(first.edges, again.edges)
    assert not torch.equal(first.edges, other.edges)


def test_priors_of_annealers_are_tempered():
    hot, cold = make_problem("trained-zephyr").hamiltonian, make_problem("trained-zephyr:beta=1").hamiltonian
    assert hot.num_spins == cold.num_spins == 256
    assert torch.allclose(hot.J, 0.2 * cold.J)


def test_a_path_from_home(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(trained)
    np.savez(tmp_path / "mine.npz", h=np.array([0.5, 0.0]), edges=np.array([[0, 1]]), J=np.array([-1.0]))
    assert make_problem("~/run").hamiltonian.graph.bipartite_sizes == (4, 4)
    assert make_problem("~/mine.npz:beta=2").hamiltonian.h.tolist() == [1.0, 0.0]


def test_a_run_and_a_file(trained, tmp_path):
    assert make_problem(str(trained)).hamiltonian.graph.bipartite_sizes == (4, 4)
    file = tmp_path / "mine.npz"
    np.savez(file, h=np.array([0.5, 0.0]), edges=np.array([[0, 1]]), J=np.array([-1.0]), gamma=0.3)
    found = make_problem(f"{file}:beta=2").hamiltonian
    assert (found.h.tolist(), found.J.tolist()) == ([1.0, 0.0], [-2.0])
    assert found.gamma.tolist() == pytest.approx([0.3, 0.3])
    np.savez(file, h=np.array([0.5]))
    with pytest.raises(DataError, match="holds no array 'edges'; a problem has h"):
        make_problem(str(file))
    np.savez(file, h=np.array([0.5]), edges=np.zeros((0, 2), int), J=np.array(["a"]))
    with pytest.raises(DataError, match="holds no problem: J is <U1, which are no numbers; a problem has h"):
        make_problem(str(file))
    file.write_text("nothing")
    with pytest.raises(DataError, match="no array of plain numbers"):
        make_problem(str(file))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("glas", ConfigError, r"there is no problem 'glas': did you mean 'glass'.*\? Allowed: .*zephyr, a run folder"),
        ("", ConfigError, "a problem's name is empty"),
        ("glass:spins=3", ConfigError, "problem 'glass:spins=3' has no option 'spins': .*Allowed: beta, gamma, graph, n, seed"),
        ("glass:n=0", ConfigError, "n is 0; it must be a whole number, 1 or more"),
        ("glass:n=2.5", ConfigError, r"n is 2\.5; it must be a whole number"),
        ("glass:n=many", ConfigError, "n is 'many'; it must be a number"),
        ("glass:n=7,graph=regular", ConfigError, "n = 7; it must be even, 4 or more"),
        ("glass:graph=star", ConfigError, "no graph 'star'"),
        ("pegasus:1", ConfigError, "problem 'pegasus:1': pegasus has m = 1, which leaves no spins"),
        ("glass:gamma=-1", ConfigError, "gamma is negative"),
        ("trained-mnist:64x64", ConfigError, "has no option 'n1'"),
        ("glass:seed=-1", ConfigError, "seed is -1; it must be a whole number, 0 or more"),
        ("glass:beta=true", ConfigError, "beta is True; it must be a number"),
        ("nowhere/at/all", RunError, "there is no folder nowhere/at/all"),
        ("nowhere.npz", DataError, "there is no file .*nowhere.npz"),
    ],
)
def test_refusals(spec, error, message):
    with pytest.raises(error, match=message):
        make_problem(spec)


def test_edges_of_a_file_may_stand_in_any_order(tmp_path):
    edges = np.array([[2, 1], [0, 2], [1, 0]])
    np.savez(tmp_path / "p.npz", h=np.zeros(3), edges=edges, J=np.array([0.1, 0.2, 0.3]), gamma=[0.5])
    found = make_problem(str(tmp_path / "p.npz")).hamiltonian
    assert found.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert np.allclose(found.J, [0.3, 0.2, 0.1])
    assert found.gamma.tolist() == [0.5] * 3
