"""Rows as latent codes, for a classifier, a clustering or a search: a file of means of q(z|x), with the rows' names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.applications.task import batches, task_files, task_input
from qvae.errors import ConfigError, DataError, install_line, nearest
from qvae.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from qvae.data.dataset import Dataset
    from qvae.models.autoencoder import Autoencoder
    from qvae.progress import Progress
    from qvae.runs.run import Run


def embed(
    run: Run,
    input: Annotated[Path, "Rows to encode: an .npy, .npz, .csv, .parquet or .txt, or a folder of PNGs."],
    format: Annotated[str, "Of the file: npz or parquet."] = "npz",
    out: Annotated[Path | None, "A folder for codes.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Write the latent codes of rows, with the rows' names, for a classifier or a clustering.

    An .npz holds ``ids`` (N,) and ``codes`` (N, n), float32: means of q(z|x), of bits their probabilities. A Parquet file has
    the columns ``id`` and ``z0``, ``z1`` and so on.

    Raises:
        ConfigError: there is no such format.
        DataError: rows can't be read, or aren't what the model takes, or Parquet is asked for without pyarrow.
        RunError: ``out`` can't be written to.
    """
    import numpy as np

    from qvae.applications.archive import archive
    from qvae.progress import Sturdy

    if format not in ("npz", "parquet"):
        raise ConfigError(f"format is {format!r}; {nearest(format, ('npz', 'parquet'))}.")
    with task_input(run, input) as rows, task_files(run, "codes", out, f".{format}") as (file, _):
        found = codes(run.model, rows.dataset, run.config.evaluation.seed, Sturdy.around(progress))
        if format == "parquet":
            _write_parquet(file, rows.ids, found)
        else:
            with archive(file) as growing:
                growing.append(ids=np.array(rows.ids))
                for part in found:
                    growing.append(codes=part)
    return Outcome([file])


def codes(model: Autoencoder, dataset: Dataset, seed: int, progress: Progress) -> Iterator[np.ndarray]:
    """Means of q(z|x) of the test rows of a data set, a few at a time, (B, n), float32.

    Grey levels are shown to the encoder as they are, where training drew bits of them: so a row's code doesn't depend on those
    before it. In a posterior of several levels the later ones still see bits drawn in the earlier ones, from ``seed``.
    """
    import torch

    from qvae.evaluation.rows import device_of
    from qvae.progress import counter

    device = device_of(model)
    generator = torch.Generator(device).manual_seed(seed)
    with progress.work(f"codes of {dataset.name}") as report:
        count: Callable[[int], None] = counter(report, len(dataset.test))
        for batch in batches(dataset.test):
            yield model.code_means(dataset.values(batch).to(device), generator).float().cpu().numpy()
            count(len(batch))


def _write_parquet(file: Path, ids: list[str], found: Iterable[np.ndarray]) -> None:
    try:
        import pyarrow as arrow
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise DataError(f"writing Parquet needs pyarrow: {install_line('tables')}; or leave --format out.") from None
    writer, start = None, 0
    with replacing(file) as temporary:
        for part in found:
            columns = {"id": ids[start : start + len(part)]} | {f"z{number}": column for number, column in enumerate(part.T)}
            table = arrow.table(columns)
            writer = writer or ParquetWriter(temporary, table.schema)
            writer.write_table(table)
            start += len(part)
        if writer is not None:
            writer.close()
