"""The sections of latent bits: the Boltzmann machine that is their prior, their posterior, and how they are smoothed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from qvae.config.section import Positive, Section


class LatentConfig(Section):
    """The graph of the latent Boltzmann machine and its transverse field."""

    graph: Literal["rbm", "complete", "chimera", "pegasus", "zephyr", "native", "edges"] = "rbm"
    """native: working qubits of the sampler's own hardware, which the run then keeps"""
    sizes: list[Positive] = [32, 32]
    """rbm: its layers; complete, native, edges: [spins]; chimera: [m], [m, n], [m, n, t]; pegasus: [m]; zephyr: [m], [m, t]"""
    edges: list[tuple[int, int]] = []
    """for graph: edges; none at all makes the factorized prior"""
    gamma: Annotated[float, Field(ge=0)] | list[Annotated[float, Field(ge=0)]] = 0.0
    """transverse field: one number, or one for each spin"""
    train_gamma: bool = False
    """learn gamma, too, each spin's own; needs training.prior_gradient: exact"""
    label_units: Literal["one-hot", "binary"] | None = None
    """further spins that carry a row's class, coupled to all others (of rbm, to the first layer); None for none"""

    @field_validator("edges", mode="before")
    @classmethod
    def _lists_are_pairs(cls, edges: Any) -> Any:
        """As JSON has them, which knows no tuples."""
        return [tuple(edge) if isinstance(edge, list) else edge for edge in edges] if isinstance(edges, list) else edges

    @model_validator(mode="after")
    def _sizes_edges_and_gamma_fit(self) -> LatentConfig:
        fewest, most, meaning = _SIZES[self.graph]
        if not fewest <= len(self.sizes) <= most:
            raise ValueError(f"sizes is {self.sizes}; graph {self.graph!r} takes {meaning}")
        if self.graph == "pegasus" and self.sizes[0] < 2:
            raise ValueError(f"sizes is {self.sizes}; a Pegasus graph begins at [2]")
        if self.edges and self.graph != "edges":
            raise ValueError(f"edges is given, but graph {self.graph!r} has its own; drop them or set graph to 'edges'")
        if isinstance(self.gamma, list) and len(self.gamma) != self.num_spins:
            spins = f"one for each of {self.num_spins} spins"
            raise ValueError(f"gamma holds {len(self.gamma)} numbers; give one number, or {spins}")
        self._check_edges()
        self._check_label_units()
        return self

    def _check_edges(self) -> None:
        seen = set()
        for position, (i, j) in enumerate(self.edges):
            low, high = min(i, j), max(i, j)
            if low < 0 or high >= self.sizes[0]:
                raise ValueError(f"edges[{position}] is [{i}, {j}]; spins are numbered 0 to {self.sizes[0] - 1}")
            if i == j or (low, high) in seen:
                raise ValueError(f"edges[{position}] is [{i}, {j}]; it must join two spins, and each pair only once")
            seen.add((low, high))

    def _check_label_units(self) -> None:
        if self.label_units is not None and self.graph not in ("rbm", "complete", "edges"):
            why = f"graph {self.graph!r} has no couplers from them to all others"
            raise ValueError(f"label_units is {self.label_units}, but {why}; take rbm, complete or edges, or leave it out")
        if self.label_units is not None and self.train_gamma:
            raise ValueError("train_gamma is true, but label_units can only be held without a transverse field; drop either")

    @property
    def num_spins(self) -> int:
        """Number of latent spins that the graph has, those of labels apart."""
        if self.graph == "chimera":
            m, n, t = [*self.sizes, *[self.sizes[0], 4][len(self.sizes) - 1 :]]
            return 2 * m * n * t
        if self.graph == "pegasus":
            return 8 * (3 * self.sizes[0] - 1) * (self.sizes[0] - 1)
        if self.graph == "zephyr":
            m, t = [*self.sizes, 4][:2]
            return 4 * t * m * (2 * m + 1)
        return sum(self.sizes)


class PosteriorConfig(Section):
    """The approximating posterior q(z|x)."""

    levels: Positive = 1
    """1 is factorial; each further level sees the levels before it"""


class RelaxationConfig(Section):
    """How discrete latents are smoothed so that gradients pass."""

    kind: Literal["gumbel", "overlapping", "spike-exponential"] = "gumbel"
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """of gumbel"""
    beta: Annotated[float, Field(gt=0, le=100)] = 8.0
    """inverse width of the exponentials of the other two"""


_SIZES = {
    "rbm": (2, 2, "two numbers, the spins of its layers, such as [32, 32]"),
    "complete": (1, 1, "one number of spins, such as [16]"),
    "chimera": (1, 3, "one to three numbers: [m], [m, n] or [m, n, t]"),
    "pegasus": (1, 1, "one number: [m]"),
    "zephyr": (1, 2, "one or two numbers: [m] or [m, t]"),
    "native": (1, 1, "one number of spins, such as [256]"),
    "edges": (1, 1, "one number of spins, such as [16]"),
}
