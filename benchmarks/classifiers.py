"""Train a classifier anew whose features measure Frechet distances, and say what it is worth.

    python benchmarks/classifiers.py digits
    python benchmarks/classifiers.py mnist --set data.root=FOLDER
    python benchmarks/classifiers.py mnist --set data.root=FOLDER --out qvae/evaluation/classifiers

With --out the weights are written under the name by which qvae finds them: this is how the shipped ones were made. Distances
measured with other weights can't be compared with these, so files that are shipped stay as they are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import qvae
from qvae.data.load import load_data
from qvae.evaluation.classifier import train_classifier
from qvae.evaluation.classifier_files import save_classifier, shipped_name
from qvae.evaluation.frechet import frechet_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    dataset = load_data(qvae.load_config(arguments.config, arguments.settings).data)
    clock, processor = time.perf_counter(), time.process_time()
    classifier = train_classifier(dataset)
    seconds = f"{time.perf_counter() - clock:.1f} s, {time.process_time() - processor:.1f} s of processor time"
    print(f"{dataset.name}: weights {classifier.weights}, test accuracy {classifier.test_accuracy}, {seconds}")
    if arguments.out:
        path = arguments.out / shipped_name(dataset)
        save_classifier(path, classifier, dataset)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KB")
    clock = time.perf_counter()
    test = dataset.values(dataset.test)
    train = dataset.values(dataset.train[: len(test)])
    noisy = test.lerp(torch.rand(test.shape, generator=torch.Generator().manual_seed(0)), 0.1)
    table = frechet_table(classifier, test, {"train": train, "test with a tenth of noise": noisy})
    for name, distance in table.items():
        print(f"{name}: {distance.value:.3f} ± {distance.stderr:.3f}, of it bias {distance.bias:.3f}")
    print(f"{len(test)} images in each set, {time.perf_counter() - clock:.1f} s")


if __name__ == "__main__":
    main()
