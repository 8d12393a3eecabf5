"""Rows back from a compressed file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from qvae.coding.container import Reader
    from qvae.progress import Progress
    from qvae.runs.run import Run


def decompress(
    run: Run,
    input: Annotated[Path, "A file that `qvae apply compress` wrote with this run, or with a copy of it."],
    out: Annotated[Path | None, "An .npz, of strings a .txt, or a folder; decompressed.npz (-2, -3 ...) in the run's."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Get the rows of a compressed file back, exactly, or, of a lossy one, what the model makes of their codes.

    The .npz holds ``ids`` (N,) and ``rows`` (N, *shape): bits as uint8, counts and numbers of categories as int32; of a lossy
    file means of p(x|z), float32. Rows that came from files of images become PNGs of the same names, too. Strings become a text
    file, one a line.

    Raises:
        CapabilityError: constriction isn't installed.
        DataError: the file is none of `compress`, of another model, truncated or damaged, or rows don't come back.
        RunError: ``out`` is there already, or can't be written to.
    """
    import numpy as np

    from qvae.applications.archive import archive
    from qvae.applications.files import new_files
    from qvae.applications.restore import write_pictures
    from qvae.coding.container import identity, reading_compressed
    from qvae.files import from_user
    from qvae.progress import Sturdy
    from qvae.reporting.run_rows import is_of_strings

    path = from_user(input)
    with reading_compressed(path) as reader:
        own = identity(run.model)
        if reader.header.identity != own:
            raise DataError(
                f"{input} was compressed by another model ({reader.header.identity[:8]}) than that of {run.path} ({own[:8]}); "
                "name the run that made it."
            )
        found = decoded(run, reader, input, Sturdy.around(progress))
        if is_of_strings(run):
            with new_files(run, "decompressed", out, ".txt", with_picture=False) as (file, _):
                return Outcome([_written_lines(run, file, found)])
        names, done = reader.names, 0
        are_pictures = len(reader.header.shape) > 1 and names is not None and all(map(_is_of_picture, names))
        longest = max(map(len, names)) if names is not None else len(str(reader.header.rows - 1))
        places = new_files(run, "decompressed", out, with_folder=are_pictures, with_picture=False)
        with places as (file, _), archive(file) as growing:
            for rows in found:
                until = done + len(rows)
                ids = [str(number) for number in range(done, until)] if names is None else names[done:until]
                growing.append(ids=np.array(ids, f"U{longest}"), rows=rows)
                if are_pictures:
                    write_pictures(run, file.with_suffix(""), ids, rows)
                done = until
    return Outcome([file, *[file.with_suffix("")] * are_pictures])


def _written_lines(run: Run, file: Path, found: Iterator[np.ndarray]) -> Path:
    """Strings in a text file, whole or not at all."""
    from qvae.files import replacing
    from qvae.reporting.run_rows import texts

    with replacing(file) as temporary, temporary.open("x", encoding="utf-8", newline="\n") as stream:
        for rows in found:
            stream.writelines(f"{string}\n" for string in texts(run, rows))
    return file


def _is_of_picture(name: str) -> bool:
    """Whether a row has the name of a file in a folder of images: no other may say where something is written."""
    from qvae.data.images import IMAGE_ENDINGS

    path = PurePath(name)
    return name.lower().endswith(IMAGE_ENDINGS) and not path.is_absolute() and ".." not in path.parts


def decoded(run: Run, reader: Reader, path: Path, progress: Progress) -> Iterator[np.ndarray]:
    """Rows of a file, a block at a time, (B, *shape)."""
    import numpy as np
    import torch

    from qvae.coding.bits_back import Changed, CodeCoder, RowCoder
    from qvae.progress import counter

    header = reader.header
    coder = (CodeCoder if header.is_lossy else RowCoder)(run.model, header.temperatures)
    starts = range(0, header.rows, coder.block_rows)
    with progress.work(f"decompressing {path}") as report:
        count = counter(report, header.rows)
        for start, block in zip(starts, reader.blocks(len(starts)), strict=True):
            try:
                found = coder.decode(block, min(coder.block_rows, header.rows - start), count)
            except Changed:
                raise DataError(
                    f"rows of {path}, from {start} on, don't come back as they went in: this machine computes otherwise than "
                    "the one that compressed them; decompress them there, or with the same version of torch."
                ) from None
            if header.is_lossy:
                codes = torch.from_numpy(found).to(run.device, next(run.model.parameters()).dtype)
                yield run.model.decode(codes).cpu().numpy()
            else:
                yield (found.astype(np.uint8) if found.dtype == np.int8 else found).reshape(-1, *run.model.shape)
