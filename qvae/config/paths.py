"""Files and folders that a configuration names, made to hold from anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qvae.config.schema import MEMORY, SOUND_ENDING, Config, DataConfig
from qvae.files import from_user


def holds_sound(folder: Path) -> bool:
    """Whether there are .wav files in a folder; subfolders aren't looked into."""
    # A name may be too long for Path.is_dir(), which then raises.
    return os.path.isdir(folder) and any(file.suffix.lower() == SOUND_ENDING for file in folder.iterdir())


def settled(config: Config, data: Any = None) -> Config:
    """A copy whose paths are absolute, ``~`` included: they hold whatever the working folder is later.

    Where there are ``data`` from memory, it says so in place of any others.
    """
    config = config.model_copy(deep=True)
    if data is not None:
        config.data = DataConfig(name=MEMORY, binarize=config.data.binarize)
    if config.data.root is not None:
        config.data.root = _path(config.data.root)
    if config.data.is_path:
        config.data.name = _path(config.data.name)
    for chosen in (config.sampler, config.generation.sampler, config.executor):
        for option in ("record", "replay"):  # files, whatever the backend
            if chosen is not None and isinstance(chosen.options.get(option), str):
                chosen.options[option] = _path(chosen.options[option])
    if config.model.gan is not None and config.model.gan.autoencoder is not None:
        config.model.gan.autoencoder = _path(config.model.gan.autoencoder)
    if config.evaluation.inception_weights is not None:
        config.evaluation.inception_weights = _path(config.evaluation.inception_weights)
    return config


def _path(text: str | Path) -> str:
    return str(from_user(text))
