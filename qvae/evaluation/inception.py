"""The Frechet inception distance: on features of Inception, by torchmetrics, from the official file of weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qvae.data.opened import require_file
from qvae.errors import ConfigError, DataError, QvaeError, install_line
from qvae.evaluation.frechet import Batches, FrechetDistance, in_batches

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_FEATURES = 2048
_MOST_BYTES = 2**28  # what is larger isn't read to its end to find its checksum
_AT_ONCE = 32  # images of 299x299 pixels: about 1 GB


def check_inception(weights: str | Path) -> None:
    """See that :func:`inception_table` could run: before hours of training, not after.

    Raises:
        ConfigError: the file is missing or isn't the official one.
        QvaeError: the packages of the extra ``fid`` are missing or can't be imported.
    """
    _check_inception_file(Path(os.path.expanduser(weights)))
    _import_inception()


@torch.no_grad()
def inception_table(
    weights: str | Path,
    reference: Batches,
    sets: Mapping[str, Batches],
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda images: None,
) -> dict[str, FrechetDistance]:
    """Frechet inception distance (FID, Heusel et al. 2017) of each of ``sets`` from ``reference``, by torchmetrics.

    On the 2,048 features of the usual weights: images are rounded to 256 levels, grey ones repeated to three channels.
    An image costs 11 GFLOP: 10,000 of them take seconds on a GPU and about an hour on a CPU core.

    Args:
        weights: the file ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid, or its copy in torch-fidelity.
        reference: the images that all sets are compared with, which are looked at once.
        sets: by name.
        device: of the network.
        progress: called with the number of images done since the last call.

    Raises:
        ConfigError: the file is missing or isn't the official one; it isn't unpickled then.
        QvaeError: the packages of the extra ``fid`` are missing or can't be imported.
        DataError: a set has fewer than two images; the message names it.
    """
    path = Path(os.path.expanduser(weights))
    _check_inception_file(path)
    metric_class = _import_inception()
    with _tensors_only():
        metric = metric_class(feature=_FEATURES, feature_extractor_weights_path=str(path), reset_real_features=False)
    metric = metric.to(device)

    def update(images: Batches, name: str, real: bool) -> int:
        count = 0
        for batch in in_batches(images, _AT_ONCE):
            metric.update(_as_bytes(batch).to(device), real=real)
            count += len(batch)
            progress(len(batch))
        if count < 2:
            raise DataError(f"{name}: a Frechet distance needs at least 2 images, but there are {count}.")
        return count

    num_reference = update(reference, "reference", real=True)
    table = {}
    for name, images in sets.items():
        count = update(images, name, real=False)
        table[name] = FrechetDistance(float(metric.compute()), count, num_reference, num_features=_FEATURES)
        metric.reset()
    return table


def _as_bytes(images: Tensor) -> Tensor:
    """Grey levels in [0, 1], (B, H, W) or (B, C, H, W) with C = 1 or 3, as bytes (B, 3, H, W)."""
    pictures = images.unsqueeze(1) if images.ndim == 3 else images
    # Rounded here, because torchmetrics cuts off: a level of 7/255 that is 1e-7 too small would become 6.
    return (pictures * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)


def _check_inception_file(path: Path) -> None:
    what = f"the weights of Inception are the file {INCEPTION_FILE}, as released by pytorch-fid"
    require_file(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"evaluation.inception_weights: {path} is larger than any such file; {what}.")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"evaluation.inception_weights: {path} can't be read ({error.strerror}); {what}.") from None
    if found != INCEPTION_SHA256:
        checksums = f"has SHA-256 {found}, not {INCEPTION_SHA256}: it is damaged or another file"
        raise ConfigError(f"evaluation.inception_weights: {path} {checksums}; {what}.")


def _import_inception() -> type[Any]:
    try:
        import torch_fidelity  # noqa: F401 (torchmetrics says too late that it is missing)
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        missing = error.name or "a module"
        extra = f"which can't be imported ({error}): {install_line('fid')}"
        raise QvaeError(f"evaluation.inception_weights needs {missing}, {extra}.") from error
    except (RuntimeError, OSError, AttributeError) as error:
        # A torchvision that was built for another torch, such as one for CUDA beside one for the CPU.
        remedy = f"install torch and torchvision from the same place, then {install_line('fid')}"
        raise QvaeError(f"evaluation.inception_weights needs torchvision, which fails here ({error}); {remedy}.") from error
    return FrechetInceptionDistance


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """Have torch.load unpickle tensors and nothing else, though torch-fidelity asks it to run whatever a file says."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(before)
