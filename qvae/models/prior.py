"""The latent prior: a (quantum) Boltzmann machine on any graph, with its fields and couplings as parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qvae.config.latent import LatentConfig
from qvae.errors import CapabilityError
from qvae.ising import graphs
from qvae.ising.graphs import Graph, edge_order
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.passes import bernoulli_entropy, spin_means
from qvae.sampling.conditional import sample_given
from qvae.sampling.sampler import LatentSampler, Moments


class BoltzmannPrior(nn.Module):
    """p(z) = <s|exp(-H)|s> / Z with trainable fields ``h`` (n,) and couplings ``J`` (m,); s = 2z - 1.

    A state dict holds the edges, too: couplings of other edges are refused, and those in another order are put in this one's.

    Args:
        graph: which spins are coupled; no edges makes the factorized prior.
        gamma: transverse field, one number or (n,).
        train_gamma: make gamma a parameter too, by its logarithm; it must then start above 0 on every spin.

    Raises:
        ValueError: gamma is to be trained, but 0 on some spin.

    >>> prior = BoltzmannPrior(graphs.rbm(2, 2))
    >>> prior.hamiltonian()
    IsingHamiltonian(4 spins, 4 couplings)
    """

    def __init__(self, graph: Graph, gamma: float | Sequence[float] = 0.0, train_gamma: bool = False) -> None:
        super().__init__()
        self.h = nn.Parameter(torch.zeros(graph.num_spins))
        self.J = nn.Parameter(0.01 * torch.randn(graph.num_edges))
        self._template = IsingHamiltonian(self.h.detach(), graph, self.J.detach(), gamma)
        self.log_gamma: nn.Parameter | None = None
        if train_gamma:
            if not bool((self._template.gamma > 0).all()):
                raise ValueError("latent.gamma is 0 on some spin; one that is trained must start above 0")
            self.log_gamma = nn.Parameter(self._template.gamma.log())

    @property
    def graph(self) -> Graph:
        """The graph, on the parameters' device."""
        return self._template.graph

    @property
    def num_spins(self) -> int:
        """Number of latent spins n."""
        return self._template.num_spins

    def hamiltonian(self) -> IsingHamiltonian:
        """The Hamiltonian with the parameters as they are, differentiable in them."""
        if self._template.h.device != self.h.device:
            self._template = self._template.to(self.h.device)
        gamma = None if self.log_gamma is None else self.log_gamma.exp()
        return self._template.replace(self.h, self.J, gamma)

    def frozen(self) -> IsingHamiltonian:
        """The Hamiltonian with the parameters as they are, cut off from their gradients: what a sampler is given."""
        return self.hamiltonian().detach()

    @torch.no_grad()
    def draw(
        self,
        num_samples: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
        held: Any = (),
        values: Any = (),
    ) -> Tensor:
        """Bits z ~ p(z), or given some of them, as floats, (num_samples, n).

        Args:
            num_samples: how many.
            sampler: who draws them.
            generator: of the choice among samples with unequal weights; None takes torch's global one.
            bias: fields (n,) added to the prior's.
            held: places of bits that are held, without a transverse field.
            values: theirs, 0 or 1.

        Raises:
            CapabilityError: there is no sampler, it can't sample this prior, or a held bit has a transverse field.
        """
        if sampler is None:
            raise CapabilityError("a Boltzmann prior is drawn by a sampler, and none was given; load_sampler(NAME) gives one.")
        hamiltonian = self.frozen()
        if len(held):
            samples = sample_given(sampler, hamiltonian, num_samples, held, 2 * torch.as_tensor(values) - 1, bias)
        else:
            biased = hamiltonian if bias is None else hamiltonian.replace(hamiltonian.h + bias)
            samples = sampler.sample(biased, num_samples)
        spins = samples.equal_weights(generator).spins
        return (1 + spins.to(self.h)) / 2

    def get_extra_state(self) -> Tensor:
        """The edges that the couplings belong to, (m, 2): part of the state dict, as ``_extra_state``."""
        return self.graph.edges.clone()

    def set_extra_state(self, state: Any) -> None:
        """Put the couplings just loaded, which belong to the edges ``state`` in their order, in the order of the graph.

        Raises:
            ValueError: these aren't the graph's edges.
        """
        order = edge_order(state)
        edges = state.sort(dim=1).values[order].to(self.graph.edges)
        if not torch.equal(edges, self.graph.edges):
            raise ValueError(
                f"the couplings of this state are of {len(edges)} other edges than the {self.graph.num_edges} of the "
                "prior's graph; load it into a prior on the graph that it was trained on"
            )
        with torch.no_grad():
            self.J.copy_(self.J[order.to(self.J.device)])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # States of qvae 0.1.0 don't name their edges: they are taken to be the graph's.
        state_dict.setdefault(f"{prefix}_extra_state", self.graph.edges)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def kl_divergence(self, logits: Tensor, sampler: LatentSampler, num_samples: int = 256) -> Tensor:
        """KL(q || p) less log Z, of factorial posteriors with these ``logits`` (B, n), in nats, (B,): a loss for any loop.

        KL(q || p) = E_q[E(z)] - H(q) + log Z. Energy and entropy are exact. log Z is missing in the value, but not in the
        gradient, which the sampler's moments give: d log Z = -<dE>. So its mean is a loss with the right gradient in the
        logits, the fields and the couplings. With a transverse field it is that of the bound -log <z|exp(-H)|z> <= E(z).

        Args:
            logits: of q(z_i = 1), differentiable.
            sampler: of this prior; it isn't asked where no gradients are wanted.
            num_samples: in its call, or chains.

        Raises:
            CapabilityError: the sampler can't sample this prior.

        >>> from qvae import load_sampler
        >>> prior = BoltzmannPrior(graphs.rbm(1, 1))
        >>> prior.kl_divergence(torch.zeros(5, 2), load_sampler("exact")).mean().backward()
        >>> round(float(prior.J.grad), 3) == round(float(torch.tanh(prior.J.detach())), 3)  # <s s'> is 0 in q, -tanh J in p
        True
        """
        hamiltonian = self.hamiltonian()
        energy = hamiltonian.energy(spin_means(logits))
        divergence = energy - bernoulli_entropy(logits)
        if not torch.is_grad_enabled():
            return divergence
        log_z = negative_phase(hamiltonian, sampler.moments(hamiltonian.detach(), num_samples))
        return divergence + (log_z - log_z.detach())


def boltzmann_prior(model: nn.Module) -> BoltzmannPrior:
    """The prior of a model, if it is one that samplers draw from.

    Raises:
        CapabilityError: it is another, or there is none.
    """
    prior = getattr(model, "prior", None)
    if not isinstance(prior, BoltzmannPrior):
        remedy = "take a qvae, or a vqvae whose variant is discrete"
        raise CapabilityError(f"this model has no Boltzmann prior, so that samplers have nothing to draw; {remedy}.")
    return prior


def negative_phase(hamiltonian: IsingHamiltonian, moments: Moments) -> Tensor:
    """-E_rho[E] as a function of h and J with the moments held: its gradient is that of log Z, its value is not log Z.

    grad log Z = -E_rho[grad E], that is -<s_i> for h_i and -<s_i s_j> for J_ij.
    """
    return -(hamiltonian.h @ moments.spins + hamiltonian.J @ moments.pairs)


def make_graph(config: LatentConfig, label_units: int = 0) -> Graph:
    """The graph that a configuration names, with so many label units as its last spins.

    These are coupled to all other spins; in an RBM they join the second layer, so that it stays one.

    Raises:
        ValueError: it is ``native``, which only the sampler's hardware knows.
    """
    sizes = config.sizes
    if config.graph == "native":
        raise ValueError("latent.graph is native: the sampler's hardware must give it (qvae.sampling.abilities.native_graph)")
    if config.graph == "rbm":
        return graphs.rbm(sizes[0], sizes[1] + label_units)
    if config.graph == "complete":
        return graphs.complete(sizes[0] + label_units)
    if config.graph == "chimera":
        return graphs.chimera(*sizes)
    if config.graph == "pegasus":
        return graphs.pegasus(sizes[0])
    if config.graph == "zephyr":
        return graphs.zephyr(*sizes)
    units = range(sizes[0], sizes[0] + label_units)
    return graphs.edge_list([*config.edges, *((i, unit) for unit in units for i in range(unit))], sizes[0] + label_units)
