"""Test rows sent through the model: what comes back, beside what went in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from qvae.runs.run import Run


def reconstruct(
    run: Run,
    num: Annotated[int, "How many test images."] = 64,
    executor: Annotated[str | None, "Another executor of a circuit than the run's own."] = None,
    out: Annotated[Path | None, "An .npz, of strings a .tsv, or a folder; reconstructed.npz (-2, -3 ...) in the run's."] = None,
) -> Outcome:
    """Test images beside their reconstructions: an .npz and a picture, or two columns of strings.

    The .npz holds the arrays ``originals`` and ``reconstructions``, of shape (num, *shape) both; the .tsv has these columns,
    and a tab between them, which no string holds.

    Raises:
        ConfigError: ``num`` is out of range.
        DataError: the run's data can't be found.
        ExecutorError: the executor can't be had or fails, or the model has no circuit.
        RunError: ``out`` is there already.
    """
    from qvae.applications.files import new_files, write_arrays
    from qvae.files import atomic_write_text
    from qvae.reporting.figures import save_figure
    from qvae.reporting.run_rows import is_of_strings, reconstructions_figure, texts

    if num < 1:
        raise ConfigError(f"num is {num}; it must be 1 or more.")
    with new_files(run, "reconstructed", out, ".tsv" if is_of_strings(run) else ".npz") as (arrays, picture):
        originals, found = reconstructed(run, num, executor)
        if is_of_strings(run):
            pairs = list(zip(texts(run, originals), texts(run, found), strict=True))
            lines = ("originals", "reconstructions"), *pairs
            atomic_write_text(arrays, "".join(f"{before}\t{after}\n" for before, after in lines))
            same = sum(before == after for before, after in pairs)
            return Outcome([arrays], [f"{same} of {len(pairs)} test strings came back as they were"])
        files = [write_arrays(arrays, originals=originals, reconstructions=found)]
        files.append(save_figure(reconstructions_figure(run, originals, found), picture))
    return Outcome(files)


def reconstructed(run: Run, num: int, executor: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first test rows as the networks see them, and their reconstructions, both (num, *shape).

    Args:
        run: with the model.
        num: how many.
        executor: of the circuit, a registered name; None is the run's own.
    """
    import torch

    from qvae.evaluation.rows import evaluation_rows
    from qvae.runs.on_executor import running_on

    settings = run.config.evaluation
    rows = evaluation_rows(run.dataset, settings, num).to(run.device)
    with running_on(run, executor) as model:
        found = model.reconstruct(rows, torch.Generator(run.device).manual_seed(settings.seed))
    return rows.unflatten(1, run.model.shape).cpu().numpy(), found.cpu().numpy()
