"""The Ising Hamiltonian, in dimod's sign, on any graph and with an optional transverse field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qvae.ising.graphs import EdgeList, Graph, edge_order

if TYPE_CHECKING:
    from dimod import BinaryQuadraticModel

MAX_ENERGY = 1e36
"""The largest sum of all fields' and couplings' sizes; samplers work in float32, which ends at 3e38."""

_SPARSE = 32  # with fewer than a 32nd of all pairs coupled, sums over neighbours are quicker than products of matrices


class IsingHamiltonian:
    """H = sum_i h_i s_i + sum_(i,j) J_ij s_i s_j - sum_i gamma_i sigma^x_i, with p(s) = <s|exp(-H)|s> / Z.

    Spins are -1 or +1, energies are in units of k_B T (beta = 1). Numbers that come in are copied. ``h``, ``J`` and ``gamma``
    may require gradients: what is computed from them is differentiable in what was given.

    Args:
        h: fields, (n,).
        edges: pairs of spin indices, (m, 2), in any order and direction, or a :class:`~qvae.ising.graphs.Graph`.
        J: couplings, (m,), in the order of ``edges`` as they are given; the attributes ``edges`` and ``J`` are both in
            ascending order. With a graph, in the order of its own ``edges``, which may not be that it was made from.
        gamma: transverse field, one number for all spins or (n,); not negative.

    Raises:
        ValueError: shapes don't agree, a value isn't finite, a gamma is negative, or energies may be above ``MAX_ENERGY``.

    >>> H = IsingHamiltonian([0.5, 0.0], [(0, 1)], [-1.0])
    >>> H.energy(torch.tensor([[1, 1], [-1, 1]])).tolist()
    [-0.5, 0.5]
    >>> H = IsingHamiltonian([0.0, 0.0, 0.0], [(2, 1), (1, 0)], [0.25, 0.5])
    >>> H.edges.tolist(), H.J.tolist()
    ([[0, 1], [1, 2]], [0.5, 0.25])
    """

    h: Tensor
    J: Tensor
    gamma: Tensor
    graph: Graph
    is_quantum: bool

    def __init__(self, h: Any, edges: EdgeList | Graph, J: Any, gamma: Any = 0.0) -> None:
        self.h = _vector(h, "h")
        n = len(self.h)
        graph = edges if isinstance(edges, Graph) else Graph(n, edges)
        self.graph = graph.to(self.h.device)
        self.J = _vector(J, "J").to(self.h)
        self.gamma = _vector(gamma, "gamma", expand=n).to(self.h)
        if graph.num_spins != n:
            raise ValueError(f"h has {n} entries, but the graph has {graph.num_spins} spins")
        if len(self.J) != graph.num_edges:
            raise ValueError(f"J has {len(self.J)} entries, but there are {graph.num_edges} edges")
        if not isinstance(edges, Graph):
            self.J = self.J[edge_order(edges).to(self.J.device)]
        if len(self.gamma) != n:
            raise ValueError(f"gamma has {len(self.gamma)} entries, but there are {n} spins")
        if bool((self.gamma < 0).any()):
            raise ValueError("gamma is negative on some spin; drop the sign: the z-basis distribution is the same")
        self._check_size()
        # Read once here: asking a CUDA tensor in every step would synchronise the device.
        self.is_quantum = bool((self.gamma > 0).any())

    def _check_size(self) -> None:
        sizes = torch.cat([self.h, self.J, self.gamma]).detach().double().abs()
        if float(sizes.sum()) > MAX_ENERGY:
            raise ValueError(
                f"fields and couplings of up to {float(sizes.max()):.1e} are too large: energies would overflow. Divide h, J "
                f"and gamma by one number, the temperature in their units, so that their sizes add up to {MAX_ENERGY:g} at most"
            )

    @classmethod
    def from_bqm(cls, bqm: BinaryQuadraticModel) -> IsingHamiltonian:
        """The Hamiltonian of a dimod model, binary or spin.

        Spin i is variable i where the variables are 0..n-1, and else ``bqm.variables[i]``, in the model's own order. The
        offset is dropped, as it changes no probability. Numbers are in float64.

        >>> import dimod
        >>> IsingHamiltonian.from_bqm(dimod.BinaryQuadraticModel.from_ising({"a": 0.5, "b": 0.0}, {"ab": -1.0}))
        IsingHamiltonian(2 spins, 1 couplings)
        """
        whole = range(bqm.num_variables)
        vectors = bqm.spin.to_numpy_vectors(whole if set(bqm.variables) == set(whole) else bqm.variables)
        h, (i, j, J) = vectors[:2]
        return cls(np.asarray(h, np.float64), np.stack([i, j], axis=1), np.asarray(J, np.float64))

    def to_bqm(self) -> BinaryQuadraticModel:
        """This Hamiltonian as dimod's spin model on the variables 0..n-1, for any solver or sampler of its.

        Raises:
            ValueError: there is a transverse field, which such a model can't hold.
        """
        from dimod import BinaryQuadraticModel, Vartype

        if self.is_quantum:
            raise ValueError(f"{self} has a transverse field, which a binary quadratic model can't hold")
        (i, j), J = self.edges.T.cpu().numpy(), self.J.detach().double().cpu().numpy()
        return BinaryQuadraticModel.from_numpy_vectors(self.h.detach().double().cpu().numpy(), (i, j, J), 0.0, Vartype.SPIN)

    @property
    def num_spins(self) -> int:
        """Number of spins n."""
        return self.graph.num_spins

    @property
    def edges(self) -> Tensor:
        """Pairs of spin indices, (m, 2), as (low, high) in ascending order."""
        return self.graph.edges

    def __repr__(self) -> str:
        field = ", transverse field" if self.is_quantum else ""
        return f"IsingHamiltonian({self.num_spins} spins, {self.graph.num_edges} couplings{field})"

    def replace(
        self, h: Tensor | None = None, J: Tensor | None = None, gamma: Tensor | None = None
    ) -> IsingHamiltonian:
        """The same graph with other fields, couplings or transverse fields, which are not checked again.

        Whether there is a transverse field at all stays as it was.
        """
        new = object.__new__(IsingHamiltonian)
        new.__dict__.update(self.__dict__)
        new.h = self.h if h is None else h
        new.J = self.J if J is None else J
        new.gamma = self.gamma if gamma is None else gamma
        return new

    def detach(self) -> IsingHamiltonian:
        """This Hamiltonian cut off from the autograd graph."""
        return self.replace(self.h.detach(), self.J.detach(), self.gamma.detach())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> IsingHamiltonian:
        """This Hamiltonian on another device or in another floating-point type."""
        new = self.replace(self.h.to(device, dtype), self.J.to(device, dtype), self.gamma.to(device, dtype))
        new.graph = self.graph.to(new.h.device)
        return new

    def energy(self, spins: Tensor) -> Tensor:
        """Diagonal energy h.s + s.J.s of spins (..., n), or of their means, as (...,)."""
        s = spins.to(self.h.dtype)
        return s @ self.h + self.interaction(s, s)

    def interaction(self, left: Tensor, right: Tensor) -> Tensor:
        """sum_(i,j) J_ij left_i right_j over the edges, for (..., n) each, as (...,)."""
        n, m = self.num_spins, self.graph.num_edges
        if m == 0:
            return left.new_zeros(left.shape[:-1])
        if self.graph.bipartite_sizes is not None:
            n1, n2 = self.graph.bipartite_sizes
            return ((left[..., :n1] @ self.J.view(n1, n2)) * right[..., n1:]).sum(-1)
        if m * _SPARSE >= n * n:
            i, j = self.edges.T
            matrix = self.J.new_zeros(n, n).index_put((i, j), self.J)
            return ((left @ matrix) * right).sum(-1)
        columns, starts = self.graph.forward_neighbours
        sums = _weighted_sums(columns, right.reshape(-1, n), starts, self.J)
        return (sums * left.reshape(-1, n)).sum(-1).reshape(left.shape[:-1])

    def local_fields(self, spins: Tensor) -> Tensor:
        """dE/ds_i = h_i + sum_j J_ij s_j of spins (..., n), or of their means, as (..., n)."""
        s, n, m = spins.to(self.h.dtype), self.num_spins, self.graph.num_edges
        if m == 0:
            return self.h.expand_as(s).clone()  # a view of h would let what is done to it change this Hamiltonian
        if self.graph.bipartite_sizes is not None:
            n1, n2 = self.graph.bipartite_sizes
            matrix = self.J.view(n1, n2)
            return self.h + torch.cat([s[..., n1:] @ matrix.T, s[..., :n1] @ matrix], dim=-1)
        if m * _SPARSE >= n * n:
            i, j = self.edges.T
            matrix = self.J.new_zeros(n, n).index_put((i, j), self.J)
            return self.h + s @ (matrix + matrix.T)
        columns, edges, starts = self.graph.neighbours
        return self.h + _weighted_sums(columns, s.reshape(-1, n), starts, self.J[edges]).reshape(s.shape)

    def condition(self, index: Any, spins: Any) -> IsingHamiltonian:
        """The Hamiltonian of the free spins, in their old order, when the spins at ``index`` are held at ``spins``.

        The fixed spins lose their transverse field and act as fields on their neighbours; their own constant energy is
        dropped, since it doesn't change the distribution of the others. If the fixed spins have no transverse field,
        this is exactly p(free | fixed), whatever the field on the free spins. If they have one, it is the clamped
        state of Amin et al. (2018, arXiv:1601.02036), which differs from the conditional of p(s).

        Raises:
            ValueError: an index is out of range or named twice, or a value is neither -1 nor +1.
        """
        where = torch.as_tensor(index, dtype=torch.int64).reshape(-1).to(self.h.device)
        values = torch.as_tensor(spins).reshape(-1).to(self.h)
        if len(where) != len(values):
            raise ValueError(f"{len(where)} spins are named, but {len(values)} values given")
        if len(where) and (int(where.min()) < 0 or int(where.max()) >= self.num_spins):
            raise ValueError(f"an index is outside 0..{self.num_spins - 1}")
        if len(where.unique()) < len(where):
            raise ValueError("a spin is fixed twice")
        if bool((values.abs() != 1).any()):
            raise ValueError("fixed spins must be -1 or +1")
        fixed = torch.zeros(self.num_spins, dtype=torch.bool, device=self.h.device)
        fixed[where] = True
        held = torch.zeros_like(self.h)
        held[where] = values
        i, j = self.edges.T
        # A fixed neighbour's value is 0 where it is free, so both ends can be added without a case distinction.
        field = self.h.index_add(0, i, self.J * held[j]).index_add(0, j, self.J * held[i])
        free = torch.nonzero(~fixed).squeeze(1)
        renumber = torch.full((self.num_spins,), -1, dtype=torch.int64, device=self.h.device)
        renumber[free] = torch.arange(len(free), device=self.h.device)
        inside = ~(fixed[i] | fixed[j])
        return IsingHamiltonian(field[free], renumber[self.edges[inside]], self.J[inside], self.gamma[free])


def _weighted_sums(columns: Tensor, values: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """sum over each bag of weights * values[:, columns], (N, n), a tenth of the time of gathering both ends of every edge."""
    rows = values.T.contiguous()
    return F.embedding_bag(
        columns, rows, starts, mode="sum", per_sample_weights=weights.to(rows), include_last_offset=True
    ).T


def _vector(values: Any, name: str, expand: int | None = None) -> Tensor:
    """A finite one-dimensional floating-point tensor of its own; a Python number or list becomes float32."""
    is_array = isinstance(values, Tensor | np.ndarray)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        # Whatever its byte order, precision and strides.
        values = values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)
    tensor = torch.as_tensor(values).clone()  # differentiable in a tensor that requires gradients
    if not tensor.is_floating_point() or (tensor.dtype == torch.float64 and not is_array):
        tensor = tensor.to(torch.float32)
    if expand is not None and tensor.ndim == 0:
        tensor = tensor.repeat(expand)
    if tensor.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, but has shape {tuple(tensor.shape)}")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} has entries that are NaN or infinite")
    return tensor
