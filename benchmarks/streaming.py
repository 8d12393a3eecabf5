"""Steps of a training on data in memory, in a memory-mapped file, and in a data set of PyTorch, in turns of a few steps.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --rows 2000000 --set model.network.hidden=[512,512]

Images are 28 x 28 grey levels drawn at random. "cold" is the file with its pages dropped from the system's cache before each
turn, as those of a file larger than memory mostly are. Times of the wall hold where nothing else runs; those of the processor
hold in any case, but leave out the waiting for a disk.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import qvae
from qvae.data.arrays import dataset_from_arrays
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.trainer import Trainer

TURN = 10  # steps


class Turns(Trainer):
    """A trainer that makes a few steps when it is told to."""

    def turn(self) -> tuple[float, float]:
        """Milliseconds of the wall and of the processor of a step."""
        self.order = getattr(self, "order", None) or self._batches()
        wall, cpu = time.perf_counter(), time.process_time()
        for rows in itertools.islice(self.order, TURN):
            self._train_step(rows)
        return (time.perf_counter() - wall) / TURN * 1e3, (time.process_time() - cpu) / TURN * 1e3


def trainer_of(config: qvae.Config, data: object, test: np.ndarray) -> Turns:
    dataset = dataset_from_arrays(data, test)
    model = QVAE.from_config(config.model, Statistics.of(dataset))
    sampler = qvae.load_sampler("gibbs", seed=1, **config.sampler.options)
    return Turns(BoltzmannObjective(model, dataset.prepare_in_training, config.training, sampler), dataset, config.training)


def drop(mapped: np.memmap, file: Path) -> None:
    """Have the system forget what it read of a file."""
    mapped._mmap.madvise(mmap.MADV_DONTNEED)
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="of the file; a temporary one if left out")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = qvae.load_config(asked.config, asked.overrides)
    images = np.random.default_rng(0).integers(0, 256, (asked.rows, 28, 28), dtype=np.uint8)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        file = Path(folder, "images.npy")
        np.save(file, images)
        os.sync()
        warm, cold = (np.load(file, mmap_mode="r") for _ in range(2))
        given = {"in memory": images, "mapped": warm, "mapped, cold": cold}
        given["torch Dataset"] = torch.utils.data.TensorDataset(torch.from_numpy(images[: min(asked.rows, 50_000)]))
        trainers = {name: trainer_of(config, data, images[:1000]) for name, data in given.items()}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
        for _ in range(asked.turns):
            for name, trainer in trainers.items():
                if name == "mapped, cold":
                    drop(cold, file)
                found[name].append(trainer.turn())
        size = f"{asked.rows:,} images, {images.nbytes / 1e9:.2f} GB, {asked.config}"
        print(f"{size}; load of the machine {os.getloadavg()[0]:.1f}")
        first = np.median(found["in memory"], axis=0)
        print("data            ms a step: wall  processor  of that in memory: wall  processor")
        for name, turns in found.items():
            wall, cpu = np.median(turns, axis=0)
            print(f"{name:14}  {wall:15.2f}  {cpu:9.2f}  {wall / first[0]:23.2f}  {cpu / first[1]:9.2f}")


if __name__ == "__main__":
    main()
