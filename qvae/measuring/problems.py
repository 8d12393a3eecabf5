"""Families of problems for samplers, by name and size: `rbm-critical:64x64`, `glass:n=12,gamma=1`, a run, an .npz file."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.config.load import parse_assignments
from qvae.data.arrays import read_arrays
from qvae.errors import ConfigError, DataError, nearest
from qvae.ising import graphs
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.prior import boltzmann_prior

DEFAULT_PROBLEMS = (
    "rbm-weak:8x8",
    "glass:n=12",
    "glass:n=8,gamma=1",
    "rbm-critical:64x64",
    "trained-digits",
    "trained-mnist",
    "trained-zephyr",
    "zephyr:m=4",
    "glass:n=500,graph=regular",
    "glass:n=48,gamma=1",
)
"""Small and large, easy and hard, with and without a transverse field."""
_FIELD = 0.1  # standard deviation of the fields of random problems: enough to break the symmetry of all spins turned
_ANNEALER_BETA = 0.2  # of the priors that were trained on annealers; see priors/README.md


@dataclass(frozen=True)
class Problem:
    """A Hamiltonian to sample.

    Attributes:
        spec: its specification, as a user writes it.
        hamiltonian: on the CPU.
        origin: what it is, in a sentence without a full stop.
    """

    spec: str
    hamiltonian: IsingHamiltonian
    origin: str

    @property
    def fingerprint(self) -> str:
        """A digest of the values: two problems with the same one have the same distribution."""
        found = hashlib.sha256()
        for tensor in (self.hamiltonian.h, self.hamiltonian.edges, self.hamiltonian.J, self.hamiltonian.gamma):
            found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.contiguous().cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    @property
    def size(self) -> str:
        """Spins, couplings and field, in words."""
        field = ", transverse field" if self.hamiltonian.is_quantum else ""
        return f"{self.hamiltonian.num_spins} spins, {self.hamiltonian.graph.num_edges} couplings{field}"


def make_problem(spec: str) -> Problem:
    """The problem that a specification names: ``FAMILY[:SIZE][,OPTION=VALUE ...]``, a run folder, or an .npz file.

    Families are in :data:`FAMILIES`; a size is ``64x64`` or ``12``. All of them take ``beta``, by which ``h`` and ``J`` are
    multiplied, ``gamma``, a transverse field on every spin, and, where they are random, ``seed``. An .npz file holds ``h``
    (n,), ``edges`` (m, 2) and ``J`` (m,) in dimod's sign, and ``gamma`` if there is one; options after it, as in
    ``mine.npz:beta=0.5``, are ``beta`` and ``gamma``.

    Raises:
        ConfigError: there is no such family, or it has no such option, or a value is out of its range.
        DataError: the file can't be read as a problem.
        RunError: the folder is not a run.

    >>> make_problem("glass:n=5,gamma=1").hamiltonian
    IsingHamiltonian(5 spins, 10 couplings, transverse field)
    """
    name, _, rest = spec.partition(":")
    if not spec.strip():
        raise ConfigError(f"a problem's name is empty; {nearest('', FAMILIES)}, a run folder, or an .npz file.")
    path = Path(os.path.expanduser(name))
    is_path = name not in FAMILIES and (path.exists() or name.endswith(".npz") or "/" in name)
    known = {"beta": 1.0, "gamma": None} if is_path else {**FAMILIES[_known(name)].options, "gamma": None}
    options = known | _options(spec, rest, known)
    try:
        hamiltonian, origin = _of_path(path) if is_path else FAMILIES[name].make(options)
        hamiltonian = hamiltonian.replace(hamiltonian.h * options["beta"], hamiltonian.J * options["beta"])
        gamma = hamiltonian.gamma if options["gamma"] is None else options["gamma"]
        return Problem(spec, IsingHamiltonian(hamiltonian.h, hamiltonian.graph, hamiltonian.J, gamma), origin)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"problem {spec!r}: {' '.join(str(error).split()).rstrip('.')}.") from error


def _known(name: str) -> str:
    if name not in FAMILIES:
        raise ConfigError(f"there is no problem {name!r}: {nearest(name, FAMILIES)}, a run folder, or an .npz file.")
    return name


def _options(spec: str, text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """What stands behind the colon: a size, and options with their values."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        size = re.fullmatch(r"(\d+)(?:x(\d+))?", part.strip())
        if size and size[2]:
            found |= {"n1": int(size[1]), "n2": int(size[2])}
        elif size:
            found["m" if "m" in known else "n"] = int(size[1])
        else:
            found |= parse_assignments([part])
    for option, value in found.items():
        if option not in known:
            raise ConfigError(f"problem {spec!r} has no option {option!r}: {nearest(option, known)}.")
        if option != "graph" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"problem {spec!r}: {option} is {value!r}; it must be a number.")
        least = 0 if option == "seed" else 1
        if isinstance(known[option], int) and (not isinstance(value, int) or value < least):
            raise ConfigError(f"problem {spec!r}: {option} is {value!r}; it must be a whole number, {least} or more.")
    return found


# Families -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A family of problems: what it is, its options with their defaults, and how one is made."""

    what: str
    options: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], tuple[IsingHamiltonian, str]]


def _rbm(strength: float) -> Callable[[Mapping[str, Any]], tuple[IsingHamiltonian, str]]:
    def make(options: Mapping[str, Any]) -> tuple[IsingHamiltonian, str]:
        n1, n2 = options["n1"], options["n2"]
        generator = torch.Generator().manual_seed(options["seed"])
        # Couplings N(0, s^2) order as a glass at s^4 n1 n2 = 1: the bipartite Sherrington-Kirkpatrick model.
        scale = strength / (n1 * n2) ** 0.25
        h = _FIELD * torch.randn(n1 + n2, generator=generator)
        J = scale * torch.randn(n1 * n2, generator=generator)
        origin = f"RBM with Gaussian couplings at {strength:g} of the glass transition"
        return IsingHamiltonian(h, graphs.rbm(n1, n2), J), origin

    return make


def _glass(options: Mapping[str, Any]) -> tuple[IsingHamiltonian, str]:
    kinds: dict[str, Callable[[int], Graph]] = {"complete": graphs.complete, "regular": lambda n: _regular(n, options["seed"])}
    if options["graph"] not in kinds:
        raise ConfigError(f"a glass has no graph {options['graph']!r}: {nearest(str(options['graph']), kinds)}.")
    graph = kinds[options["graph"]](options["n"])
    signs = 2 * torch.randint(0, 2, (graph.num_edges,), generator=torch.Generator().manual_seed(options["seed"])) - 1
    hamiltonian = IsingHamiltonian(torch.zeros(graph.num_spins), graph, options["strength"] * _critical(graph) * signs)
    return hamiltonian, f"spin glass, couplings of one size and random sign, at {options['strength']:g} of the transition"


def _native(topology: Callable[[int], Graph]) -> Callable[[Mapping[str, Any]], tuple[IsingHamiltonian, str]]:
    def make(options: Mapping[str, Any]) -> tuple[IsingHamiltonian, str]:
        graph = topology(options["m"])
        generator = torch.Generator().manual_seed(options["seed"])
        h = _FIELD * torch.randn(graph.num_spins, generator=generator)
        J = options["strength"] * _critical(graph) * torch.randn(graph.num_edges, generator=generator)
        origin = f"an annealer's graph, Gaussian couplings at {options['strength']:g} of the transition"
        return IsingHamiltonian(h, graph, J), origin

    return make


def _critical(graph: Graph) -> float:
    """The coupling at which random signs freeze on a tree of the graph's mean degree d: (d - 1) tanh^2 J = 1."""
    degree = 2 * graph.num_edges / max(1, graph.num_spins)
    return math.atanh((degree - 1) ** -0.5) if degree > 2.5 else 1.0


def _regular(n: int, seed: int) -> Graph:
    """A random graph in which every spin has three neighbours."""
    import networkx as nx

    if n < 4 or n % 2:
        raise ConfigError(f"a glass on a regular graph has n = {n}; it must be even, 4 or more.")
    return graphs.edge_list(sorted(sorted(edge) for edge in nx.random_regular_graph(3, n, seed=seed).edges), n)


def _trained(name: str) -> Callable[[Mapping[str, Any]], tuple[IsingHamiltonian, str]]:
    def make(options: Mapping[str, Any]) -> tuple[IsingHamiltonian, str]:
        from safetensors import safe_open

        with (
            resources.as_file(resources.files("qvae.measuring") / "priors" / f"{name}.safetensors") as file,
            safe_open(file, "pt") as archive,
        ):
            tensors: dict[str, Tensor] = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
            origin = archive.metadata()["origin"]
        h, J = tensors["h"].float(), tensors["J"].float()
        edges = tensors.get("edges")
        # What has no list of edges is an RBM of two equal layers.
        graph = graphs.rbm(len(h) // 2, len(h) // 2) if edges is None else graphs.edge_list(edges.long(), len(h))
        return IsingHamiltonian(h, graph, J), origin

    return make


_RBM = {"n1": 64, "n2": 64, "beta": 1.0, "seed": 0}
_NATIVE = {"m": 4, "strength": 0.7, "beta": 1.0, "seed": 0}
FAMILIES: Mapping[str, Family] = {
    "rbm-weak": Family("random RBM, weakly coupled: chains mix at once", _RBM, _rbm(0.5)),
    "rbm-critical": Family("random RBM at the glass transition", _RBM, _rbm(1.0)),
    "trained-digits": Family("RBM 32x32 trained on digits", {"beta": 1.0}, _trained("trained-digits")),
    "trained-mnist": Family("RBM 128x128 trained on MNIST", {"beta": 1.0}, _trained("trained-mnist")),
    "trained-zephyr": Family("256 spins trained on an Advantage2", {"beta": _ANNEALER_BETA}, _trained("trained-zephyr")),
    "trained-pegasus": Family("256 spins trained on an Advantage", {"beta": _ANNEALER_BETA}, _trained("trained-pegasus")),
    "zephyr": Family("D-Wave's Zephyr graph, random couplings", _NATIVE, _native(graphs.zephyr)),
    "pegasus": Family("D-Wave's Pegasus graph, random couplings", _NATIVE, _native(graphs.pegasus)),
    "glass": Family(
        "spin glass on a complete or a random 3-regular graph",
        {"n": 12, "graph": "complete", "strength": 1.0, "beta": 1.0, "seed": 0},
        _glass,
    ),
}
"""The families by name."""


# A user's own ---------------------------------------------------------------------------------------------------------


def _of_path(path: Path) -> tuple[IsingHamiltonian, str]:
    if path.suffix != ".npz":
        from qvae.runs.run import load_run

        run = load_run(path)
        return boltzmann_prior(run.model).frozen().to("cpu"), f"prior of the run {path}"
    arrays = read_arrays(path)
    missing = [key for key in ("h", "edges", "J") if key not in arrays]
    if missing:
        raise DataError(f"{path} holds no array {missing[0]!r}; {_ARRAYS}.")
    try:
        h, J, gamma = (_numbers(arrays, key) for key in ("h", "J", "gamma"))
        edges = torch.from_numpy(arrays["edges"].astype(np.int64, casting="safe"))
        hamiltonian = IsingHamiltonian(h, edges, J, gamma)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} holds no problem: {error}; {_ARRAYS}.") from None
    return hamiltonian, f"{path.name}"


_ARRAYS = "a problem has h (n,), edges (m, 2), J (m,) and, if any, gamma, of one number or (n,)"


def _numbers(arrays: Mapping[str, np.ndarray], name: str) -> Tensor:
    """One of them, float32; of gamma, 0 where there is none."""
    array = np.asarray(arrays.get(name, 0.0))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {array.dtype}, which are no numbers")
    found = torch.from_numpy(array.astype(np.float32))
    return found.reshape(()) if name == "gamma" and found.numel() == 1 else found
