"""Noise, holes and coarse pixels mended by models, with and without a training for it, and in classical ways.

The number of components of PCA is chosen, among a few, as the best one on training images with the same damage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from contest import Contest, Gaussian, damaged, images, twin
from scipy import ndimage

from qvae.applications.condition import Target, condition, taken_on_trust
from qvae.applications.observation import Flipped, Observation, PartlyHidden, Pooled
from qvae.evaluation.log_terms import LogPrior
from qvae.models.autoencoder import Autoencoder

RATE = 0.2
COMPONENTS = (5, 10, 20, 40, 80, 160)
TUNED_ON = 300
COMPLETIONS, DRAWS, STEPS, AT_ONCE = 8, 128, 100, 32

Rows = np.ndarray
"""(N, D)."""


@dataclass
class Damage:
    """What is done to images, and ways to mend it without a model.

    Attributes:
        name: as ``training.corruption`` has it.
        amount: its ``training.corruption_amount``.
        harm: clean rows to what is seen of them, (N, S).
        observe: as a model's posterior takes what is seen.
        by_pca: rows from what is seen.
        cheap: the same, by the name of the way.
    """

    name: str
    amount: float
    harm: Callable[[Rows], Rows]
    observe: Callable[[Autoencoder, torch.Tensor], Observation]
    by_pca: Callable[[Gaussian, Rows], Rows]
    cheap: dict[str, Callable[[Rows], Rows]]


def noise(contest: Contest) -> Damage:
    rng, shape = np.random.default_rng(contest.seed), contest.run.model.shape

    def flip(rows: Rows) -> Rows:
        return np.where(rng.random(rows.shape) < RATE, rng.random(rows.shape) < 0.5, rows).astype(np.float32)

    return Damage(
        *("salt-and-pepper", RATE, flip),
        lambda model, seen: Flipped(model.likelihood, seen, RATE, 0.5),
        lambda pca, seen: pca.project(seen),
        {
            "as given": lambda seen: seen,
            "median filter, 3 x 3": lambda seen: ndimage.median_filter(seen.reshape(-1, *shape), (1, 3, 3)),
        },
    )


def hole(contest: Contest) -> Damage:
    """A quarter of the image, at a place of the seed's."""
    rng, (height, width) = np.random.default_rng(contest.seed), contest.run.model.shape
    hidden = np.zeros((height, width), bool)
    top, left = rng.integers(0, height // 2 + 1), rng.integers(0, width // 2 + 1)
    hidden[top : top + height // 2, left : left + width // 2] = True
    hidden = hidden.reshape(-1)
    shown, mean = np.eye(hidden.size, dtype=np.float32)[~hidden], contest.train.mean(0)
    return Damage(
        *("hidden", 0.25, lambda rows: rows),
        lambda model, seen: PartlyHidden(model.likelihood, seen, torch.from_numpy(hidden).expand(len(seen), -1)),
        lambda pca, seen: np.where(hidden, pca.given(seen @ shown.T, shown), seen),
        {"mean of the training images": lambda seen: np.where(hidden, mean, seen)},
    )


def coarse(contest: Contest, side: int) -> Damage:
    """Means of squares of ``side`` x ``side`` pixels."""
    shape = contest.run.model.shape
    along = [np.kron(np.eye(length // side), np.full((1, side), 1 / side)) for length in shape]
    pool = np.kron(*along).astype(np.float32)
    return Damage(
        *("coarse", side, lambda rows: rows @ pool.T),
        lambda model, seen: Pooled(model.likelihood, seen, side, shape),
        lambda pca, seen: pca.given(seen, pool),
        {"as given, in squares": lambda seen: side**2 * seen @ pool},
    )


def restoration(contest: Contest, tasks: dict[str, Damage], for_it: bool) -> None:
    """PSNR and SSIM of each way; models that learn the task, too, if ``for_it``."""
    clean = contest.clean
    for task, damage in tasks.items():
        seen = damage.harm(clean)
        found = {name: way(seen) for name, way in damage.cheap.items()}
        found["PCA"] = damage.by_pca(best_pca(contest.train, damage), seen)
        for name, (run, density) in contest.densities.items():
            for steps in (0, STEPS) if run is contest.run else (STEPS,):
                found[f"{name}: {steps} steps"] = inferred(run.model, density, damage, seen, steps)
        if for_it:
            config = damaged(contest.run.config, damage.name, damage.amount)
            found["the model, trained for it"] = trusted(contest.trained(config).model, damage, seen)
            plain = contest.trained(twin(config, "deterministic")).model
            found["plain autoencoder, trained for it: its output"] = made_of(plain, damage, seen)
            found["plain autoencoder, trained for it: with what was seen"] = trusted(plain, damage, seen)
        for method, rows in found.items():
            pictures = (images(rows, contest.run), images(clean, contest.run))
            contest.add(task, method, PSNR=psnr(*pictures), SSIM=ssim(*pictures))


def best_pca(train: Rows, damage: Damage) -> Gaussian:
    """With the number of components that mends damaged training images best."""
    tuned = train[:TUNED_ON]
    models = [Gaussian(train[TUNED_ON:], number) for number in COMPONENTS if number < train.shape[1]]
    return max(models, key=lambda model: psnr(damage.by_pca(model, damage.harm(tuned)), tuned))


def inferred(model: Autoencoder, density: LogPrior, damage: Damage, seen: Rows, steps: int) -> Rows:
    """E[x | seen] of a model that knows nothing of the damage; of 0 steps by weighted proposals of its encoder alone."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        condition(Target(model, damage.observe(model, part), density), COMPLETIONS, generator, DRAWS, steps=steps).mean
        for part in torch.from_numpy(seen).split(AT_ONCE)
    ]
    return torch.cat(parts).numpy()


@torch.no_grad()
def made_of(model: Autoencoder, damage: Damage, seen: Rows) -> Rows:
    """What comes out where the damaged image goes in."""
    return model.reconstruct(damage.observe(model, torch.from_numpy(seen)).picture()).flatten(1).numpy()


def trusted(model: Autoencoder, damage: Damage, seen: Rows) -> Rows:
    """By a model that was trained to see such damage, what it says joined with what was seen by Bayes' rule."""
    target = Target(model, damage.observe(model, torch.from_numpy(seen)), None)
    return taken_on_trust(target, COMPLETIONS, torch.Generator().manual_seed(0), DRAWS).mean.numpy()


def psnr(found: Rows, clean: Rows) -> float:
    """Mean over images of 10 log10 (1 / mean squared error)."""
    error = ((found - clean) ** 2).reshape(len(clean), -1).mean(1)
    return float(-10 * np.log10(np.maximum(error, 1e-6)).mean())


def ssim(found: np.ndarray, clean: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of images (N, H, W), with windows of 7 x 7."""

    def local(images: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(images.astype(np.float64), (0, 7, 7))[:, 3:-3, 3:-3]

    a, b = local(found), local(clean)
    variances = local(found**2) - a**2 + local(clean**2) - b**2
    covariance = local(found * clean) - a * b
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (variances + c2))).mean())
