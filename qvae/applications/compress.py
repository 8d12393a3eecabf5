"""Rows as a short file: without loss, by bits-back with the model's posterior, or their latent codes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.applications.task import log_prior, require_at_least, task_input
from qvae.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from qvae.coding.bits_back import Bits, Coder
    from qvae.data.dataset import Dataset
    from qvae.progress import Progress
    from qvae.runs.run import Run

ENDING = ".qvz"

_REMEDY = "cut them first, as by images >= 0.5, or keep their codes alone: --lossy"


def compress(
    run: Run,
    input: Annotated[Path, "Rows to compress: an .npy, .npz, .csv, .parquet or .txt, or a folder of PNGs."],
    lossy: Annotated[bool, "Keep latent codes alone, from which decompress makes rows much like these."] = False,
    thrift: Annotated[float, "With --lossy, how much codes lean to the prior: more takes fewer bits, and more is lost."] = 0.0,
    out: Annotated[Path | None, "A file or a folder; compressed.qvz (-2, -3 ...) in the run's."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Compress rows to a file that `decompress` reads with the same run, on any machine.

    Bits, counts, categories and strings can be kept without loss, real numbers can't. It says how many bits a row takes, and
    how many of them are beyond the model's own bound, and what of a text file's lines won't come back.

    Raises:
        CapabilityError: the model isn't a qvae without a transverse field, real numbers are to be kept without loss, or
            constriction isn't installed.
        ConfigError: ``thrift`` is out of range, or given without ``lossy``.
        DataError: rows can't be read, aren't what the model takes, or are grey levels, of which bits lose something.
        RunError: ``out`` is there already, or can't be written to.
    """
    from qvae.applications.files import new_files
    from qvae.coding.bits_back import Bits, CodeCoder, RowCoder
    from qvae.coding.container import Header, identity, writing
    from qvae.progress import Sturdy, counter

    require_at_least("thrift", thrift, 0)
    if thrift and not lossy:
        raise ConfigError("thrift chooses among lossy codes; add --lossy, or leave it out.")
    progress = Sturdy.around(progress)
    coder: Coder = CodeCoder(run.model) if lossy else RowCoder(run.model)
    with task_input(run, input) as rows, new_files(run, "compressed", out, ENDING, with_picture=False) as (file, _):
        if not lossy and rows.dataset.kind == "bits":
            _require_bits(rows.dataset)
        density, nats, bits, shape = log_prior(run, progress), 0.0, Bits(), run.model.shape
        # The names of strings are the strings themselves.
        has_names = rows.dataset.kind != "strings" and rows.ids != [str(number) for number in range(len(rows))]
        header = Header(
            identity=identity(run.model),
            rows=len(rows),
            shape=shape,
            is_lossy=lossy,
            temperatures=coder.temperatures,
            has_names=has_names,
        )
        with writing(file, header, rows.ids) as blocks, progress.work(f"compressing {rows.dataset.name}") as report:
            count = counter(report, len(rows))
            for part in _coded(run, rows.dataset, coder, thrift):
                block, taken, codes = coder.encode(part, count)
                blocks.append(block)
                bits += taken
                nats -= float(density(_codes_on(run, codes)).sum())
        said = sentences(bits, nats / math.log(2), len(rows), 8 * file.stat().st_size)
        return Outcome([file], [*rows.dataset.remarks, *said])


def sentences(bits: Bits, prior: float, rows: int, size: int) -> list[str]:
    """What compression is worth.

    Args:
        bits: that rows have taken.
        prior: -log2 p(z), summed over their codes.
        rows: how many.
        size: of the file, in bits.
    """
    bound = bits.ideal + prior - bits.posterior
    beyond = bits.prior - prior
    odds = bits.data - bits.ideal
    rest = size - bound - beyond - odds - bits.start
    own = "the model's bound on them, minus the ELBO, is" if bits.data else "their codes' -log2 p(z) is"
    return [
        f"{size // 8:,} bytes for {rows:,} row{'s' * (rows != 1)}: {size / rows:.2f} bits each; {own} {bound / rows:.2f}",
        f"beyond it, a row: {beyond / rows:.2f} bits for the chain in place of the prior's log Z, {odds / rows:.2f} for odds "
        f"of one in a million at the least, {bits.start / rows:.2f} to start with, {rest / rows:.2f} of the file itself",
    ]


def _require_bits(dataset: Dataset) -> None:
    """Raise a DataError if rows hold grey levels, also where a cut would make bits of them."""
    from dataclasses import replace

    from qvae.applications.task import batches

    uncut = replace(dataset, binarization="dynamic")
    for batch in batches(dataset.test):
        values = uncut.values(batch)
        if not bool(((values == 0) | (values == 1)).all()):
            raise DataError(f"{dataset.name} holds grey levels, but this model's bits are 0 or 1; {_REMEDY}.")


def _coded(run: Run, dataset: Dataset, coder: Coder, thrift: float) -> Iterator[np.ndarray]:
    """What the coder takes of rows, a block at a time."""
    import numpy as np

    from qvae.applications.task import batches
    from qvae.coding.bits_back import CodeCoder
    from qvae.coding.lossy import chosen_codes
    from qvae.models.qvae import QVAE

    for block in batches(dataset.test, coder.block_rows):
        if not isinstance(coder, CodeCoder):
            yield dataset.values(block).numpy().astype(np.int8 if dataset.kind == "bits" else np.int32)
            continue
        assert isinstance(run.model, QVAE)
        parts = [chosen_codes(run.model, dataset.values(rows).to(run.device), thrift) for rows in block.split(256)]
        yield np.concatenate([part.cpu().numpy().astype(np.int8) for part in parts])


def _codes_on(run: Run, codes: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(codes).to(run.device, next(run.model.parameters()).dtype)
