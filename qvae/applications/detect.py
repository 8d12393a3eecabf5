"""What doesn't belong: how odd a row is to the model, by five scores, and how well each tells odd rows from normal ones."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.applications.task import batches, log_prior, require_at_least, require_seed, task_files, task_input

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from torch import Tensor

    from qvae.data.dataset import Dataset
    from qvae.evaluation.log_terms import LogPrior
    from qvae.models.autoencoder import Autoencoder
    from qvae.progress import Progress
    from qvae.runs.run import Run

_SIGNIFICANT = 2  # standard errors from 0.5 at which a score is said to tell something
_WEAK = 0.75  # AUROC below which a score that tells something is still of little use


def detect(
    run: Run,
    input: Annotated[Path, "Rows to score: an .npy, .npz, .csv, .parquet or .txt, or a folder of PNGs."],
    normal: Annotated[Path | None, "Rows that belong; with them, how well each score tells the input from these."] = None,
    samples: Annotated[int, "Latents drawn for each row."] = 50,
    seed: Annotated[int, "Of those draws."] = 0,
    out: Annotated[Path | None, "A folder for scores.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Score rows by how little they belong to what the model has learnt; with normal rows given, say how well that works.

    The .npz holds ``ids`` and the scores of :func:`anomaly_scores` by their names, (N,) each, and with ``normal`` theirs as
    ``normal_...``.

    Raises:
        CapabilityError: the model has no prior.
        ConfigError: a number is out of range.
        DataError: rows can't be read, or aren't what the model takes.
        RunError: ``out`` can't be written to.
    """
    import numpy as np

    from qvae.applications.files import write_arrays
    from qvae.progress import Sturdy
    from qvae.reporting.figures import save_figure
    from qvae.reporting.score_figure import score_histograms

    require_at_least("samples", samples, 1)
    require_seed(seed)
    progress = Sturdy.around(progress)
    with ExitStack() as stack:
        rows = stack.enter_context(task_input(run, input))
        belonging = None if normal is None else stack.enter_context(task_input(run, normal))
        arrays, picture = stack.enter_context(task_files(run, "scores", out))
        density = log_prior(run, progress)
        found = scored(run.model, rows.dataset, density, samples, seed, progress)
        sets = {"ids": np.array(rows.ids)} | found
        if belonging is None:
            odd = rows.ids[int(found["likelihood"].argmax())]
            return Outcome([write_arrays(arrays, **sets)], [f"the oddest row by likelihood: {odd}"])
        usual = scored(run.model, belonging.dataset, density, samples, seed, progress)
        files = [write_arrays(arrays, **sets, **{f"normal_{name}": values for name, values in usual.items()})]
        files.append(save_figure(score_histograms(usual, found), picture))
        return Outcome(files, [verdict(name, usual[name], found[name]) for name in found])


def anomaly_scores(
    model: Autoencoder, rows: Tensor, log_prior: LogPrior, samples: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """How odd prepared rows (B, D) are, in nats, float64, (B,) each; the higher, the odder.

    energy
        E_q[-log p(z)]: of the code alone, whatever it says of x. Of a Boltzmann machine E(z) + log Z.
    free_energy
        E_q[-log p(z)] - H(q(z|x)): energy less entropy of the code, which is KL(q(z|x) || p(z)).
    reconstruction
        E_q[-log p(x|z)].
    elbo
        the sum of the last two, minus the ELBO.
    likelihood
        -log (1/K) sum_k p(x, z_k) / q(z_k|x) of ``samples`` draws: minus the importance-weighted log-likelihood.

    E_q is the mean over the same draws z ~ q(z|x).
    """
    from qvae.evaluation.log_terms import log_terms

    terms = log_terms(model, rows, samples, log_prior, generator)
    return {
        "energy": -terms.prior.mean(1),
        "free_energy": (terms.posterior - terms.prior).mean(1),
        "reconstruction": -terms.likelihood.mean(1),
        "elbo": -terms.weights.mean(1),
        "likelihood": math.log(samples) - terms.weights.logsumexp(1),
    }


def scored(
    model: Autoencoder, dataset: Dataset, log_prior: LogPrior, samples: int, seed: int, progress: Progress
) -> dict[str, np.ndarray]:
    """:func:`anomaly_scores` of the test rows of a data set, a few at a time, (N,) each."""
    import numpy as np
    import torch

    from qvae.evaluation.rows import device_of
    from qvae.progress import counter

    device = device_of(model)
    bits, generator = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    parts: dict[str, list[np.ndarray]] = {}
    with torch.no_grad(), progress.work(f"scores of {dataset.name}") as report:
        count: Callable[[int], None] = counter(report, len(dataset.test))
        for batch in batches(dataset.test):
            found = anomaly_scores(model, dataset.prepare(batch, bits).to(device), log_prior, samples, generator)
            for name, values in found.items():
                parts.setdefault(name, []).append(values.cpu().numpy())
            count(len(batch))
    return {name: np.concatenate(values) for name, values in parts.items()}


def verdict(name: str, normal: np.ndarray, odd: np.ndarray) -> str:
    """A sentence: the AUROC of a score, and whether it can be used."""
    from qvae.evaluation.roc import auroc

    area, error = auroc(normal, odd)
    if math.isnan(error):
        return f"{name}: AUROC {area:.3f}, of which one row tells nothing; give two or more of either kind"
    said = f"{name}: AUROC {area:.3f} ± {error:.3f}"
    if not abs(area - 0.5) > _SIGNIFICANT * error:
        return f"{said}; it fails: these rows and the normal ones look alike to it"
    if area < 0.5:
        return f"{said}; it fails: it takes the normal rows for the odd ones"
    return f"{said}; it tells little" if area < _WEAK else said
