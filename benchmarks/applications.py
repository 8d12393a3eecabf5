"""What a trained model is worth in tasks, beside other ways to do the same.

    python benchmarks/applications.py digits --seeds 3
    python benchmarks/applications.py digits --seeds 3 --tasks augment interpolate-style
    python benchmarks/applications.py mnist --seeds 1 --set data.root=FOLDER --set training.max_seconds=600
    python benchmarks/applications.py strings --seeds 3

Test images are cut to bits at 0.5. Noise, masks and models differ from seed to seed; ± is the standard deviation over seeds.
The number of components of PCA is chosen, among a few, as the best one on training images with the same damage.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import strings
import torch
from creation import augmentation, interpolation_and_style
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import qvae
from qvae.applications.condition import Target, condition, taken_on_trust
from qvae.applications.detect import scored
from qvae.applications.observation import Flipped, Observation, PartlyHidden, Pooled
from qvae.applications.task import log_prior
from qvae.data.arrays import dataset_from_arrays
from qvae.evaluation.roc import auroc
from qvae.evaluation.rows import code_means
from qvae.progress import Progress
from qvae.runs.run import Run

QUICK = ["evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0", "evaluation.importance_samples=5"]
COMPONENTS = (5, 10, 20, 40)
RATE = 0.2
DAMAGE = {
    "denoise": ["corruption=salt-and-pepper", f"corruption_amount={RATE}"],
    "inpaint": ["corruption=hidden", "corruption_amount=0.25"],
    "super-resolve": ["corruption=coarse", "corruption_amount=2"],
}
TUNED_ON, LABELLED = 300, 1000
AT_ONCE = 32


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
            print(f"| {task} | {method} | {', '.join(figures)} |")


def psnr(found: np.ndarray, clean: np.ndarray) -> float:
    """Mean over images of 10 log10 (1 / mean squared error)."""
    error = ((found - clean) ** 2).reshape(len(clean), -1).mean(1)
    return float(-10 * np.log10(np.maximum(error, 1e-6)).mean())


def ssim(found: np.ndarray, clean: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), with windows of 7 x 7."""

    def local(images: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(images.astype(np.float64), (0, 7, 7))[:, 3:-3, 3:-3]

    a, b = local(found), local(clean)
    variances = local(found**2) - a**2 + local(clean**2) - b**2
    covariance = local(found * clean) - a * b
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (variances + c2))).mean())


class Gaussian:
    """Images as a normal distribution whose covariance is that of PCA: what is unseen is its conditional mean."""

    def __init__(self, train: np.ndarray, components: int) -> None:
        pca = PCA(components, random_state=0).fit(train)
        self.pca, self.mean, self.covariance = pca, pca.mean_, pca.get_covariance()

    def project(self, rows: np.ndarray) -> np.ndarray:
        return self.pca.inverse_transform(self.pca.transform(rows)).clip(0, 1)

    def given(self, seen: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """E[x | matrix x = seen]."""
        joint = matrix @ self.covariance @ matrix.T + 1e-3 * np.eye(len(matrix))
        gain = np.linalg.solve(joint, matrix @ self.covariance).T
        return (self.mean + (seen - self.mean @ matrix.T) @ gain.T).clip(0, 1)


def by_pca(
    train: np.ndarray, damage: Callable[[np.ndarray], np.ndarray], mend: Callable[[Gaussian, np.ndarray], np.ndarray]
) -> Gaussian:
    """The rows of PCA with the number of components that mends damaged training images best."""
    tuned = train[:TUNED_ON]
    models = [Gaussian(train[TUNED_ON:], n) for n in COMPONENTS if n < train.shape[1]]
    return max(models, key=lambda model: psnr(mend(model, damage(tuned)), tuned))


def mended(run: Run, observe: Callable[[slice], Observation], count: int, damage: list[str]) -> np.ndarray:
    """By a second model that was trained with such damage, and is taken on trust."""
    training = run.config.model_copy(deep=True)
    for text in damage:
        key, value = text.split("=")
        setattr(training.training, key, value if key == "corruption" else float(value))
    with tempfile.TemporaryDirectory() as folder:
        trained = qvae.train(training, Path(folder, "run"))
    target = Target(trained.model, observe(slice(0, count)), None)
    return taken_on_trust(target, 8, torch.Generator().manual_seed(0)).mean.numpy()


def restored(run: Run, observe: Callable[[slice], Observation], count: int, steps: int) -> np.ndarray:
    density, generator, parts = log_prior(run, Progress()), torch.Generator().manual_seed(0), []
    for start in range(0, count, AT_ONCE):
        target = Target(run.model, observe(slice(start, min(start + AT_ONCE, count))), density)
        parts.append(condition(target, 8, generator, draws=128, steps=steps).mean)
    return torch.cat(parts).numpy()


def bits_of(run: Run, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Training rows, and the first ``count`` test rows, cut at 0.5, (N, D) both."""
    data = run.dataset
    train, test = ((data.values(rows).flatten(1).numpy() >= 0.5) for rows in (data.train[:5000], data.test[:count]))
    return train.astype(np.float32), test.astype(np.float32)


def restoration(run: Run, seed: int, results: Results, count: int) -> None:
    train, clean = bits_of(run, count)
    shape, likelihood = run.model.shape, run.model.likelihood
    height, width = shape
    rng = np.random.default_rng(seed)

    def flip(rows: np.ndarray) -> np.ndarray:
        return np.where(rng.random(rows.shape) < RATE, rng.random(rows.shape) < 0.5, rows).astype(np.float32)

    hidden = np.zeros(shape, bool)
    top, left = rng.integers(0, height // 2 + 1), rng.integers(0, width // 2 + 1)
    hidden[top : top + height // 2, left : left + width // 2] = True
    shown = np.eye(height * width, dtype=np.float32)[~hidden.reshape(-1)]
    rows_of, columns_of = (np.kron(np.eye(side // 2), np.full((1, 2), 0.5)) for side in shape)
    pool = np.kron(rows_of, columns_of).astype(np.float32)
    noisy, coarse = flip(clean), clean @ pool.T
    mask = torch.from_numpy(hidden.reshape(1, -1))
    images = {name: torch.from_numpy(rows) for name, rows in (("noisy", noisy), ("clean", clean), ("coarse", coarse))}

    def filled(rows: np.ndarray, model: Gaussian) -> np.ndarray:
        return np.where(hidden.reshape(-1), model.given(rows @ shown.T, shown), rows)

    median = ndimage.median_filter(noisy.reshape(-1, *shape), (1, 3, 3)).reshape(len(clean), -1)
    pca = {
        "denoise": by_pca(train, flip, lambda m, rows: m.project(rows)).project(noisy),
        "inpaint": filled(clean, by_pca(train, lambda rows: rows, lambda m, rows: filled(rows, m))),
        "super-resolve": by_pca(train, lambda rows: rows @ pool.T, lambda m, rows: m.given(rows, pool)).given(coarse, pool),
    }
    nearest = coarse.reshape(-1, height // 2, width // 2).repeat(2, 1).repeat(2, 2).reshape(len(clean), -1)
    mean = np.where(hidden.reshape(-1), train.mean(0), clean)
    cheap = {
        "denoise": {"as given": noisy, "median filter, 3 x 3": median},
        "inpaint": {"mean of the training images": mean},
        "super-resolve": {"as given, in squares": nearest},
    }
    observe: dict[str, Callable[[slice], Observation]] = {
        "denoise": lambda part: Flipped(likelihood, images["noisy"][part], RATE, 0.5),
        "inpaint": lambda part: PartlyHidden(likelihood, images["clean"][part], mask.expand(len(images["clean"][part]), -1)),
        "super-resolve": lambda part: Pooled(likelihood, images["coarse"][part], 2, shape),
    }
    for task, look in observe.items():
        found = cheap[task] | {"PCA": pca[task]}
        found["the model: proposals alone"] = restored(run, look, len(clean), 0)
        found["the model: 100 steps"] = restored(run, look, len(clean), 100)
        found["a model trained for it"] = mended(run, look, len(clean), DAMAGE[task])
        for method, rows in found.items():
            pictures = (rows.reshape(-1, *shape), clean.reshape(-1, *shape))
            results.add(task, method, PSNR=psnr(*pictures), SSIM=ssim(*pictures))


def detection(run: Run, seed: int, results: Results, count: int) -> None:
    train, clean = bits_of(run, count)
    rng, shape, density = np.random.default_rng(seed), run.model.shape, log_prior(run, Progress())
    turned = np.rot90(clean.reshape(-1, *shape), axes=(1, 2)).reshape(len(clean), -1)
    noisy = np.where(rng.random(clean.shape) < RATE, rng.random(clean.shape) < 0.5, clean)
    gaussian = Gaussian(train, min(20, train.shape[1]))

    def scores(rows: np.ndarray) -> dict[str, np.ndarray]:
        data = dataset_from_arrays(train, rows.reshape(-1, *shape).astype(np.float32), binarize="threshold", name="rows")
        found = scored(run.model, data, density, 20, 0, Progress())
        found["PCA: what it can't reconstruct"] = ((gaussian.project(rows) - rows) ** 2).sum(1)
        found["PCA: minus the log-density"] = -gaussian.pca.score_samples(rows)
        return found

    usual = scores(clean)
    for odd, rows in {"turned by 90 degrees": turned, f"salt and pepper, {RATE:.0%}": noisy}.items():
        for name, values in scores(rows).items():
            results.add(f"detect: {odd}", name, AUROC=auroc(usual[name], values)[0])


def embedding(run: Run, seed: int, results: Results, count: int) -> None:
    data = run.dataset
    assert data.train_labels is not None
    assert data.test_labels is not None
    train, test = (data.values(rows).flatten(1) for rows in (data.train[:LABELLED], data.test))
    y, test_y = data.train_labels[:LABELLED].numpy(), data.test_labels.numpy()
    codes = [code_means(run.model, rows, seed) for rows in (train, test)]
    pca = PCA(min(codes[0].shape[1], train.shape[1] - 1), random_state=0).fit(train.numpy())
    sets: dict[str, list[Any]] = {
        "the model's codes": codes,
        f"PCA, {pca.n_components_} numbers": [pca.transform(rows.numpy()) for rows in (train, test)],
        "raw pixels": [train.numpy(), test.numpy()],
    }
    for name, (a, b) in sets.items():
        linear = LogisticRegression(max_iter=500).fit(a, y).score(b, test_y)
        results.add(f"embed: {LABELLED} labels", name, linear=linear, kNN=KNeighborsClassifier(5).fit(a, y).score(b, test_y))


WORK: dict[str, Callable[[Run, int, Results, int], None]] = {
    "restore": restoration,
    "detect": detection,
    "embed": embedding,
    "augment": lambda run, seed, results, count: augmentation(run.config, run.dataset, seed, results.add),
    "interpolate-style": lambda run, seed, results, count: interpolation_and_style(run, seed, results.add),
}


def of_images(config: str, settings: list[str], count: int, tasks: list[str], seed: int, results: Results) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = qvae.train(qvae.load_config(config, [*QUICK, *settings]), Path(folder, "run"))
        for task in tasks:
            WORK[task](run, seed, results, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200, help="test images that are restored and scored")
    parser.add_argument("--tasks", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    results = Results()
    for seed in range(arguments.seeds):
        if arguments.config == "strings":
            for method, found in strings.figures(seed, arguments.settings).items():
                results.add("strings", method, **found)
        else:
            settings = [*arguments.settings, f"training.seed={seed}"]
            of_images(arguments.config, settings, arguments.rows, arguments.tasks, seed, results)
        print(f"after seed {seed}:", flush=True)
        results.print()


if __name__ == "__main__":
    main()
