"""What a trained model is worth in tasks, beside classical twins trained alike and cheap ways to do the same.

    python benchmarks/applications.py digits --seeds 3
    python benchmarks/applications.py digits --seeds 3 --tasks augment interpolate-style
    python benchmarks/applications.py mnist --run RUN --seeds 1 --set data.root=FOLDER --set training.epochs=20
    python benchmarks/applications.py strings --seeds 3

Test images are cut to bits at 0.5. Noise, masks and models differ from seed to seed; ± is the standard deviation over seeds.
With --run the model isn't trained but opened, and the settings are those of its twins and of models trained for a task.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import strings
import torch
from contest import QUICK, Contest, Gaussian, bits, images
from creation import augmentation, interpolation_and_style
from restoration import coarse, hole, noise, restoration
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import qvae
from qvae.applications.detect import scored
from qvae.applications.task import log_prior
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import Dataset
from qvae.data.load import load_data
from qvae.evaluation.log_terms import LogPrior
from qvae.evaluation.roc import auroc
from qvae.evaluation.rows import code_means
from qvae.progress import Progress
from qvae.runs.run import Run

DRAWS = 20
COMPONENTS = 20


class Results:
    """Numbers of each seed by task, method and measure."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, task: str, method: str, **found: float) -> None:
        for name, value in found.items():
            self.values[task, method][name].append(value)

    def print(self) -> None:
        for (task, method), found in self.values.items():
            figures = [f"{name} {np.mean(v):.3f} ± {np.std(v, ddof=min(1, len(v) - 1)):.3f}" for name, v in found.items()]
            print(f"| {task} | {method} | {', '.join(figures)} |", flush=True)


def bounds(contest: Contest) -> None:
    """Bits an image without loss, of the test rows: minus the ELBO, which bits-back takes, and minus the log-likelihood."""
    pictures = images(contest.clean, contest.run)
    data = dataset_from_arrays(pictures, pictures, binarize="threshold", name="rows")
    for name, (run, density) in contest.densities.items():
        nats = scored(run.model, data, density, DRAWS, contest.seed, Progress())
        measures = {"bits": nats["elbo"], "at_best": nats["likelihood"]}
        contest.add("compress", name, **{measure: values.mean() / math.log(2) for measure, values in measures.items()})


def detection(contest: Contest) -> None:
    """Test rows beside the same turned, the same with noise, and images of another kind where there are some."""
    clean, rng = contest.clean, np.random.default_rng(contest.seed)
    odd = {
        "turned by 90 degrees": np.rot90(images(clean, contest.run), axes=(1, 2)).reshape(clean.shape),
        "salt and pepper, 20 %": np.where(rng.random(clean.shape) < 0.2, rng.random(clean.shape) < 0.5, clean),
    }
    if contest.fashion is not None:
        fashion = qvae.load_config("mnist", ["data.name=fashion-mnist", f"data.root={contest.fashion}"]).data
        data = load_data(fashion)
        odd["fashion"] = data.values(data.test[: contest.count]).flatten(1).numpy() >= 0.5
    told_apart(contest, contest.densities, contest.train, clean, odd)


def held_back(contest: Contest) -> None:
    """Models of all classes but one, that of the seed's number, and test rows of that class beside the others."""
    data = contest.run.dataset
    (x, y), (test, test_y) = ((bits(contest.run, rows), labels.numpy()) for rows, labels in _with_labels(data))
    kept, odd = y != contest.seed % 10, test_y == contest.seed % 10
    given = {"train": images(x[kept], contest.run), "test": images(test[~odd], contest.run), "binarize": "threshold"}
    runs = {name: contest.trained(run.config, given) for name, (run, _) in contest.densities.items()}
    models = {name: (run, log_prior(run, Progress())) for name, run in runs.items()}
    rows = {"a class held back": test[odd][: contest.count]}
    told_apart(contest, models, x[kept][: len(contest.train)], test[~odd][: contest.count], rows)


def told_apart(
    contest: Contest, models: dict[str, tuple[Run, LogPrior]], train: np.ndarray, usual: np.ndarray, odd: dict[str, np.ndarray]
) -> None:
    """AUROC of each score of each model, and of PCA's."""
    gaussian = Gaussian(train, min(COMPONENTS, train.shape[1]))

    def scores(rows: np.ndarray) -> dict[str, np.ndarray]:
        pictures = images(rows.astype(np.float32), contest.run)
        data = dataset_from_arrays(pictures, pictures, binarize="threshold", name="rows")
        found = {
            f"{name}: {score}": values
            for name, (run, density) in models.items()
            for score, values in scored(run.model, data, density, DRAWS, 0, Progress()).items()
        }
        found["PCA: what it can't reconstruct"] = ((gaussian.project(rows) - rows) ** 2).sum(1)
        found["PCA: minus the log-density"] = -gaussian.pca.score_samples(rows)
        return found

    normal = scores(usual)
    for what, rows in odd.items():
        for name, values in scores(rows).items():
            contest.add(f"detect: {what}", name, AUROC=auroc(normal[name], values)[0])


def embedding(contest: Contest) -> None:
    """Accuracy of two classifiers on all test rows, of codes and of pixels, with 5,000 labels or two thirds of all.

    PCA sees all training rows, as the models did: labels alone are few.
    """
    data, seed = contest.run.dataset, contest.seed
    (train, y), (test, test_y) = ((data.values(rows).flatten(1), labels.numpy()) for rows, labels in _with_labels(data))
    labelled, every = min(5000, 2 * len(train) // 3), train.numpy()
    train, y = train[:labelled], y[:labelled]
    sets = {
        name: [code_means(run.model, rows, seed) for rows in (train, test)]
        for name, run in {"the model's codes": contest.run, "Gaussian VAE": contest.gaussian_vae}.items()
    }
    components = min(sets["Gaussian VAE"][0].shape[1], train.shape[1] - 1)
    pca = Gaussian(every, components).pca
    sets[f"PCA, {components} numbers"] = [pca.transform(rows.numpy()) for rows in (train, test)]
    sets["raw pixels"] = [train.numpy(), test.numpy()]
    for name, (a, b) in sets.items():
        linear = LogisticRegression(max_iter=500).fit(a, y).score(b, test_y)
        nearest = KNeighborsClassifier(5).fit(a, y).score(b, test_y)
        contest.add(f"embed: {labelled} labels", name, linear=linear, kNN=nearest)


def _with_labels(data: Dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    assert data.train_labels is not None
    assert data.test_labels is not None
    return [(data.train, data.train_labels), (data.test, data.test_labels)]


WORK: dict[str, Callable[[Contest], None]] = {
    "restore": lambda contest: restoration(contest, {"denoise": noise(contest), "inpaint": hole(contest)}, for_it=True),
    "super-resolve": lambda contest: restoration(contest, {"to twice the side": coarse(contest, 2)}, for_it=True),
    "super-resolve-4": lambda contest: restoration(contest, {"to four times the side": coarse(contest, 4)}, for_it=False),
    "bounds": bounds,
    "detect": detection,
    "held-back": held_back,
    "embed": embedding,
    "augment": lambda contest: augmentation(contest.run.config, contest.run.dataset, contest.seed, contest.add),
    "interpolate-style": lambda contest: interpolation_and_style(contest.run, contest.seed, contest.add),
}


def of_images(arguments: argparse.Namespace, seed: int, results: Results) -> None:
    settings = [*QUICK, *arguments.settings]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run is None:
            run = qvae.train(qvae.load_config(arguments.config, [*settings, f"training.seed={seed}"]), Path(folder, "run"))
        else:
            run = qvae.load_run(arguments.run, settings)
        contest = Contest(run, seed, arguments.rows, results.add, Path(folder), arguments.fashion)
        for task in arguments.tasks:
            WORK[task](contest)
            print(f"after {task}:")
            results.print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--run", help="a trained run of this configuration, in place of a new one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200, help="test images that are restored and scored")
    parser.add_argument("--tasks", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST's idx files, which don't belong to mnist")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    results = Results()
    for seed in range(arguments.seeds):
        print(f"seed {seed}")
        if arguments.config == "strings":
            for method, found in strings.figures(seed, arguments.settings).items():
                results.add("strings", method, **found)
            results.print()
        else:
            of_images(arguments, seed, results)


if __name__ == "__main__":
    main()
