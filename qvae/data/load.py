"""The data set that a configuration names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from qvae.config.paths import holds_sound
from qvae.config.schema import DataConfig
from qvae.data.arrays import dataset_from_arrays, load_array_file
from qvae.data.dataset import Dataset, Kind, permutation
from qvae.data.given_table import IDS
from qvae.data.idx import IDX_SETS, load_idx_set
from qvae.data.images import load_image_folder
from qvae.data.kinds import make_dataset
from qvae.data.sound import load_sound_folder
from qvae.data.split import SPLIT_SEED, Split
from qvae.data.strings import load_string_file
from qvae.data.tables import read_table, to_labels
from qvae.errors import DataError, nearest


def load_data(config: DataConfig, kind: Kind = "bits") -> Dataset:
    """The data set that a configuration names, as data of the kind that the model's likelihood takes.

    ``digits`` are the 1,797 digits of 8x8 pixels and 17 grey levels in scikit-learn, split once and for all into 1,500
    training and 297 test images. ``mnist`` and ``fashion-mnist`` are read from the usual idx files. Arrays in a .npy or
    .npz file are taken as :func:`~qvae.data.arrays.dataset_from_arrays` says; an .npz holds ``train`` (or ``x_train``)
    and perhaps ``test``, ``train_labels`` and ``test_labels`` (or ``x_test``, ``y_train``, ``y_test``), ``images`` and
    ``labels``, ``x`` and ``y``, ``data`` and ``target``, or one array of any name. Tables in a .csv or .parquet file
    have named columns, a folder holds PNG or JPEG files, or short clips as WAV
    files, and a .txt file strings, one a line.

    Raises:
        DataError: files are missing, damaged or not what they should be, or values aren't what the likelihood takes.
    """
    if kind != "bits" and config.binarize != "auto":
        raise DataError(
            f"data.binarize is {config.binarize}, but the model's likelihood takes {kind}, no bits; leave it at auto, or set "
            "model.likelihood=bernoulli."
        )
    suffix = Path(config.name).suffix
    if (suffix == ".txt") != (kind == "strings"):
        if kind == "strings":
            takes = "the model's likelihood takes strings, one a line of a .txt file"
            raise DataError(f"{takes}; set data.name to one, or another likelihood for {config.name}.")
        raise DataError(f"{config.name} holds strings, but the model's likelihood takes {kind}; set model.likelihood=strings.")
    if kind == "strings":
        return load_string_file(config.name)
    if config.name == "digits":
        return _load_digits(config, kind)
    if config.name in IDX_SETS:
        return load_idx_set(config, kind)
    if suffix in (".npy", ".npz"):
        return load_array_file(config, kind)
    if suffix in (".csv", ".parquet"):
        return _load_table(config, kind)
    if holds_sound(Path(os.path.expanduser(config.name))):
        return load_sound_folder(config.name, kind)
    return load_image_folder(config, kind)


def _load_table(config: DataConfig, kind: Kind) -> Dataset:
    columns = read_table(Path(os.path.expanduser(config.name)))
    labels: np.ndarray | None = None
    classes: list[str] = []
    if config.labels is not None:
        if config.labels not in columns:
            raise DataError(f"{config.name} has no column {config.labels!r} of labels; {nearest(config.labels, columns)}.")
        labels, classes = to_labels(columns.pop(config.labels), f"column {config.labels!r} of {config.name}")
    dataset = dataset_from_arrays(columns, train_labels=labels, binarize=config.binarization, name=config.name, kind=kind)
    remarks = [
        f"column {name!r} of {config.name} is learnt as any other; if it but names rows, leave it out of the file."
        for name in IDS
        if name in columns
    ]
    if classes:
        remarks.append(f"classes of {config.name}: {', '.join(f'{number} {name}' for number, name in enumerate(classes))}.")
    return replace(dataset, remarks=(*dataset.remarks, *remarks), class_names=tuple(classes))


def _load_digits(config: DataConfig, kind: Kind) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = permutation(len(digits.images), SPLIT_SEED)
    images, labels = digits.images.astype(np.uint8)[order], digits.target[order]
    split = Split(images[:1500], images[1500:], labels[:1500], labels[1500:])
    return make_dataset("digits", split, kind, config.binarization, levels=17)
