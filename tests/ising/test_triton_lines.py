"""Cluster updates by Triton's kernel: in its interpreter against Trotter products, and on CUDA where there is one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from interpreted_lines import interpreted
from torch import Tensor
from trotter_products import GRAPHS, MIXED, SIGMAS, by_spin, flattened, generator, settled, slice_product, trotter

from qvae.ising.exact import ExactDistribution, exact_distribution
from qvae.ising.graphs import complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines

pytest.importorskip("triton")

CHAINS = 4000
SPARSE = edge_list([(0, 1), (1, 2), (2, 0), (2, 4), (4, 5)], 7)  # three colours, and two spins that nothing is coupled to
Excess = Callable[[Tensor, ExactDistribution], float]


def hamiltonian_on(graph, coupling: float = 0.6, gamma: object = 0.7, seed: int = 0) -> IsingHamiltonian:
    random = generator(seed)
    h = 0.5 * torch.randn(graph.num_spins, generator=random)
    return IsingHamiltonian(h, graph, coupling * torch.randn(graph.num_edges, generator=random), gamma)


def call(hamiltonian: IsingHamiltonian, slices: int, sweeps: int, chains: int = CHAINS, **more: object) -> dict:
    bits = WorldLines(hamiltonian, slices).random_state(chains, generator())
    return {"hamiltonian": hamiltonian, "slices": slices, "bits": bits, "sweeps": sweeps, "seed": 1} | more


WORDS = hamiltonian_on(rbm(1, 2), gamma=[2.5, 0.6, 2.5])  # few lines of the second are cut in the first 32 slices
WIDE = hamiltonian_on(rbm(3, 5))
ON_PATH, FIELDS = hamiltonian_on(SPARSE), torch.linspace(-1, 1, 7)
BETAS = torch.tensor([0.6, 0.3]).repeat_interleave(CHAINS // 2)
BASE = -FIELDS[WorldLines(ON_PATH, 2).gibbs.order].unsqueeze(1) * torch.tensor([1.0, -1.0]).repeat_interleave(CHAINS // 2)
PINS = torch.randn(4, 500, generator=generator(3)).sign()
# Two large couplings, all but opposite, of a spin in the field of what is left of them.
LARGE = IsingHamiltonian([-1e4, -1e4, 0.3], [(0, 2), (1, 2)], [3000.3, -3000.1], 0.8)
DOWN = IsingHamiltonian([2.0, 2.0], [(0, 1)], [-0.1], 0.1)


@functools.cache
def calls() -> dict[str, dict]:
    # The interpreter takes milliseconds for a slice of a tile, whatever the number of chains.
    return {
        "rbm": call(hamiltonian_on(rbm(2, 3), gamma=[*MIXED, 0.5]), 4, 5),
        "joint": call(hamiltonian_on(complete(2)), 4, 5),
        "sparse": call(hamiltonian_on(SPARSE, gamma=1.0), 2, 5, given={"order": [2, 0, 1]}, tiles={"_ROWS": (2, 2)}),
        "no edges": call(hamiltonian_on(edge_list([], 3), gamma=1.0), 2, 5),
        "words": call(WORDS, 48, 1, bits=settled(WORDS, 48, CHAINS)[1]),
        "one slice": call(hamiltonian_on(rbm(2, 2), gamma=0.0), 1, 5),
        "path": call(ON_PATH, 2, 5, given={"beta": BETAS, "base": BASE}),
        "pinned": call(hamiltonian_on(rbm(2, 2)), 2, 2, 500, given={"pinned": 1e9 * PINS}),
        "turning": call(DOWN, 6, 2, bits=torch.ones(2, 6, 500, dtype=torch.int8)),
        "large": call(LARGE, 2, 3),
        "wide": call(WIDE, 2, 2, 19),
        "wide again": call(WIDE, 2, 2, 19),
        "wide in small tiles": call(WIDE, 2, 2, 19, tiles={"_CHAINS": (8, 8), "_COLUMNS": 16, "_PROGRAMS": 2}),
        "wide, other seed": call(WIDE, 2, 2, 19, seed=2),
        "one colour": call(WIDE, 2, 1, 19, given={"order": [1]}),
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The bits that each of ``calls`` gives."""
    return dict(zip(calls(), interpreted(tmp_path_factory.mktemp("lines"), list(calls().values())), strict=True))


def spins_of(name: str, bits: Tensor, k: int) -> Tensor:
    return WorldLines(calls()[name]["hamiltonian"], bits.shape[1]).gibbs.to_spins(bits[:, k])


@pytest.mark.parametrize("name", ["rbm", "sparse", "no edges", "words", "one slice"])
def test_slices_are_distributed_as_trotter_says(name: str, swept: dict[str, Tensor], excess: Excess) -> None:
    exact = trotter(calls()[name]["hamiltonian"], calls()[name]["slices"])
    for k in {0, calls()[name]["slices"] - 1}:
        assert excess(spins_of(name, swept[name], k), exact) < SIGMAS


def test_all_slices_together_are_distributed_as_their_weights(swept: dict[str, Tensor], excess: Excess) -> None:
    bits = swept["joint"]
    lines = WorldLines(calls()["joint"]["hamiltonian"], 4)
    flat = by_spin(lines, 2 * bits - 1).flatten(0, 1).T
    assert excess(flat, exact_distribution(flattened(calls()["joint"]["hamiltonian"], 4))) < SIGMAS


def test_correlations_in_imaginary_time_across_words(swept: dict[str, Tensor]) -> None:
    # A word holds 32 slices: 31 is next to 32, and 47 to 0.
    hamiltonian, bits = calls()["words"]["hamiltonian"], swept["words"]
    product, power = slice_product(hamiltonian, 48), torch.linalg.matrix_power
    assert bool(((bits != calls()["words"]["bits"]).float().mean((0, 2)) > 0.1).all())
    signs = torch.tensor([-1.0, 1.0]).double()
    spins = by_spin(WorldLines(hamiltonian, 48), 2 * bits.double() - 1)
    for k in (1, 5):
        for i in range(3):
            column = signs.repeat_interleave(2**i).repeat(2 ** (2 - i))
            joint = (power(product, 48 - k) * column @ (power(product, k) * column)).trace()
            expected = float(joint / power(product, 48).trace())
            found = (spins[i] * spins[i].roll(-k, 0)).mean(1)
            assert float((found - expected).abs().max()) < SIGMAS * math.sqrt((1 - expected**2) / CHAINS)


def test_a_spin_without_transverse_field_is_the_same_in_all_slices(swept: dict[str, Tensor]) -> None:
    bits = swept["rbm"]
    same = (bits == bits[:, :1]).all(1).all(1)
    assert same.tolist() == [False, True, False, False, False]


def test_chains_at_temperatures_of_their_own_on_the_path_from_independent_spins(swept, excess: Excess) -> None:
    spins = spins_of("path", swept["path"], 1)
    for part, beta, fields in zip(spins.split(CHAINS // 2), (0.6, 0.3), (FIELDS, -FIELDS), strict=True):
        between = ON_PATH.replace((1 - beta) * fields + beta * ON_PATH.h, beta * ON_PATH.J)
        assert excess(part, trotter(between, 2)) < SIGMAS


def test_pinned_spins_are_held_in_slice_0_alone(swept: dict[str, Tensor]) -> None:
    bits = swept["pinned"]
    assert torch.equal(2 * bits[:, 0] - 1, PINS.to(torch.int8))
    assert not torch.equal(bits[:, 1], bits[:, 0])


def test_world_lines_turn_as_a_whole_where_the_transverse_field_is_weak(swept: dict[str, Tensor]) -> None:
    assert float(swept["turning"].float().mean()) < 0.1


def test_what_is_left_of_large_couplings_is_right(swept: dict[str, Tensor]) -> None:
    bits = swept["large"]
    lines = WorldLines(LARGE, 2)
    spins = by_spin(lines, 2 * bits.float() - 1)
    assert bool((spins[:2] == 1).all())
    alone = trotter(IsingHamiltonian([0.3 + 0.2], [], [], 0.8), 2)
    assert float(spins[2, 0].mean()) == pytest.approx(float(alone.moments()[0]), abs=SIGMAS / math.sqrt(CHAINS))


def test_chains_draw_the_same_numbers_in_tiles_of_any_size(swept: dict[str, Tensor]) -> None:
    assert torch.equal(swept["wide"], swept["wide again"])
    assert torch.equal(swept["wide"], swept["wide in small tiles"])
    assert not torch.equal(swept["wide"], swept["wide, other seed"])


def test_colours_are_those_that_are_asked_for(swept: dict[str, Tensor]) -> None:
    changed = (swept["one colour"] != calls()["one colour"]["bits"]).flatten(1).any(1)
    assert changed.tolist() == [False] * 3 + [True] * 5


# On a GPU -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda")


@pytest.mark.parametrize("slices", [4, 40])
@pytest.mark.parametrize("graph", [*GRAPHS.values(), SPARSE, rbm(3, 4)], ids=[*GRAPHS, "sparse", "rbm of seven"])
def test_on_cuda_slices_are_distributed_as_trotter_says(graph, slices, cuda, excess, monkeypatch) -> None:
    from qvae.ising import block_gibbs

    monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0)
    hamiltonian = hamiltonian_on(graph, 0.8, gamma=([*MIXED, *MIXED])[: graph.num_spins])
    lines, random = WorldLines(hamiltonian.to("cuda"), slices), torch.Generator(cuda).manual_seed(1)
    assert type(lines._fused).__name__ == "TritonLines"
    bits = lines.sweep(lines.random_state(50_001, random), 20, random)
    exact = trotter(hamiltonian, slices)
    for k in (0, slices - 1):
        assert excess(lines.gibbs.to_spins(bits[:, k]).cpu(), exact) < SIGMAS
    kinks = (bits != bits.roll(-1, 1)).float().mean((1, 2))
    product, power = slice_product(hamiltonian, slices), torch.linalg.matrix_power
    for i, found in enumerate(by_spin(lines, kinks).tolist()):
        column = torch.tensor([-1.0, 1.0]).double().repeat_interleave(2**i).repeat(2 ** (graph.num_spins - 1 - i))
        joint = (power(product, slices - 1) * column @ (product * column)).trace() / power(product, slices).trace()
        expected = float(1 - joint) / 2
        assert found == pytest.approx(expected, abs=SIGMAS * math.sqrt(max(expected, 1e-9) / 50_001) + 1e-6)


@pytest.mark.parametrize("chains", [100, 20_000])
def test_on_cuda_large_rbms_agree_with_torchs_kernels(chains: int, cuda, monkeypatch) -> None:
    graph = rbm(150, 130)
    hamiltonian = hamiltonian_on(graph, 0.02).to("cuda")
    found = []
    for kernels in ("triton", "torch"):
        monkeypatch.setenv("QVAE_KERNELS", "torch") if kernels == "torch" else monkeypatch.delenv("QVAE_KERNELS", raising=False)
        lines, random = WorldLines(hamiltonian, 6), torch.Generator(cuda).manual_seed(2)
        assert (lines._fused is None) == (kernels == "torch")
        bits = lines.sweep(lines.random_state(chains, random), 20, random)
        found.append(2 * bits.float().mean((1, 2)) - 1)
    # Between 280 pairs of means, each of a standard error of 1 / sqrt(chains) at most.
    assert float((found[0] - found[1]).abs().max()) < SIGMAS * math.sqrt(2 / chains)
    assert float(found[0].std()) > 0.2
