"""What tasks on a user's own rows share: their input opened for a run's model, log p(z), and a place for their files.

A task asks a model for what every :class:`~qvae.models.autoencoder.Autoencoder` can do, not for its kind: codes z ~ q(z|x)
and their density (``posterior_sample``), p(x|z) (``decoder``, ``likelihood``, ``decode``), and draws of p(z)
(``require_prior``). Of these is made what else is asked for: log p(z), by :func:`log_prior`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qvae.applications.files import new_files
from qvae.errors import CapabilityError, ConfigError, RunError
from qvae.files import from_user

if TYPE_CHECKING:
    from torch import Tensor

    from qvae.data.dataset import Kind
    from qvae.data.given import Given
    from qvae.evaluation.log_terms import LogPrior
    from qvae.progress import Progress
    from qvae.runs.run import Run

AT_ONCE = 256
"""Rows that are worked on together; each may have a hundred latents."""

SEEDS = 2**32
"""How many there are that every library takes."""


def task_input(
    run: Run, path: str | Path, shapes: Sequence[tuple[int, ...]] | None = None, kind: Kind | None = None
) -> AbstractContextManager[Given]:
    """Rows for the model of a run; ``shapes`` of one row and their ``kind``, if they aren't the model's own.

    Where training cut grey levels to bits, so are those of the model's own shape; others, as those of coarse images, mean more.

    Raises:
        DataError: they can't be read, or aren't what the model takes.
    """
    from qvae.config.paths import holds_sound
    from qvae.data.given import given_rows
    from qvae.data.given_table import TABLE_ENDINGS, KnownColumns
    from qvae.reporting.run_rows import reachable_data

    known, rate = KnownColumns(), None
    is_told = Path(path).suffix in TABLE_ENDINGS or holds_sound(from_user(path))
    if is_told and (data := reachable_data(run)) is not None:
        known, rate = KnownColumns(data.feature_names, data.category_names), data.rate
    likelihood = run.model.likelihood
    cuts = shapes is None and run.config.data.binarization == "threshold"
    levels, alphabet = likelihood.statistics.levels, likelihood.statistics.alphabet
    return given_rows(path, shapes or [run.model.shape], kind or likelihood.kind, levels, cuts, known, alphabet, rate)


@contextmanager
def task_files(
    run: Run, name: str, out: Path | None, ending: str = ".npz", with_folder: bool = False
) -> Iterator[tuple[Path, Path]]:
    """A file of this ending and a .png, of new numbered names, in the folder ``out``, made if need be, or in the run's.

    Where it comes ``with_folder``, that has its name, too: no picture of an earlier call or of the user's is written over.

    Raises:
        RunError: ``out`` is a file, or can't be written to.
    """
    if out is not None:
        try:
            from_user(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{out} can't be made a folder: {error.strerror}; name another with --out.") from error
    with new_files(run, name, out, ending, with_folder) as places:
        yield places


def log_prior(run: Run, progress: Progress) -> LogPrior:
    """log p(z), with the log Z of the run's evaluation where it has one; of large quantum priors a bound of it, which is said.

    Raises:
        CapabilityError: the model has no prior, or one without a density.
    """
    from qvae.evaluation.likelihood import prior_log_partition
    from qvae.evaluation.log_terms import frozen_hamiltonian, log_diagonal_table, log_prior_of
    from qvae.ising.estimate import LogPartition

    run.model.require_prior()
    if not run.model.has_likelihood:
        raise CapabilityError("this model's latents have no density p(z), which this task needs; train a qvae or a vqvae.")
    settings, hamiltonian, known = run.config.evaluation, frozen_hamiltonian(run.model), run.evaluation or {}
    if hamiltonian is not None and "log_z" in known:
        log_z = LogPartition(known["log_z"], known["log_z_stderr"], known["log_z_method"])
    else:
        with progress.work("log Z of the prior"):
            log_z = prior_log_partition(hamiltonian, settings.log_z_chains, settings.log_z_temperatures, settings.seed)
    table = log_diagonal_table(hamiltonian)
    if table is None and hamiltonian is not None and hamiltonian.is_quantum:
        progress.warn(f"log p(z) of {hamiltonian.num_spins} spins in a transverse field is taken to be its bound -E(z) - log Z")
    return log_prior_of(run.model, log_z, table)


def batches(rows: Tensor, size: int = AT_ONCE) -> Iterator[Tensor]:
    """Stored rows (N, *shape) as a few at a time, (B, D); those of a file are read when they come."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size].flatten(1)


def require_at_least(name: str, number: float, least: float) -> None:
    """Raise a ConfigError if an option is below what it may be."""
    if number == math.inf:
        raise ConfigError(f"{name} is infinite; it must be a number.")
    if not number >= least:
        raise ConfigError(f"{name} is {number:g}; it must be {least:g} or more.")


def require_seed(seed: int) -> None:
    """Raise a ConfigError if a seed isn't one that every library takes."""
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"seed is {seed}; it must be 0 to {SEEDS - 1}.")
