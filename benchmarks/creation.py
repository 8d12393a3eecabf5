"""Augmentation, interpolation and style, beside a Gaussian VAE of the same networks and cheap ways; run by applications.py.

A small convolutional classifier of a fixed number of steps judges: what it learns from samples, how sure it is of the images on
a path, and whether an image in another's style is still of its class.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

import qvae
from qvae.applications.augment import samples_of
from qvae.applications.interpolate import ways
from qvae.applications.paths import great_circle
from qvae.applications.style import class_information, content_latents, in_style, places
from qvae.config.schema import Config
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import Dataset
from qvae.progress import Progress
from qvae.runs.run import Run

CLASSES, STEPS, BATCH, LATENTS = 10, 1000, 50, 64
JUDGE_STEPS = 300
SAMPLES = 2000
PAIRS, FRAMES, MIXED = 40, 9, 20

Add = Callable[..., None]
"""Takes a task, a method and its numbers by name."""
More = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Rows (B, D) and their labels to others that a classifier may learn from."""


class GaussianVAE(nn.Module):
    """p(x|u, y) with u ~ Normal(0, 1) and q(u|x, y), two hidden layers of 256 units each way; y is left out where K is 0."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.encoder, self.decoder = _mlp(pixels + classes, 2 * LATENTS), _mlp(LATENTS + classes, pixels)

    def told(self, rows: Tensor, y: Tensor) -> Tensor:
        return torch.cat([rows, F.one_hot(y, self.classes).float()], 1) if self.classes else rows

    def means(self, x: Tensor, y: Tensor) -> Tensor:
        return self.encoder(self.told(x, y)).chunk(2, 1)[0].detach()

    def decode(self, u: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(self.told(u, y))).detach()

    @classmethod
    def trained(cls, x: Tensor, y: Tensor, seed: int, classes: int = 0) -> GaussianVAE:
        torch.manual_seed(seed)
        model = cls(x.shape[1], classes)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for step in range(STEPS):
            chosen = torch.randint(len(x), (min(256, max(BATCH, len(x) // 4)),))
            mean, log_variance = model.encoder(model.told(x[chosen], y[chosen])).chunk(2, 1)
            u = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            output = model.decoder(model.told(u, y[chosen]))
            kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
            likelihood = -F.binary_cross_entropy_with_logits(output, x[chosen], reduction="none").sum(1)
            loss = (min(1.0, step / (0.3 * STEPS)) * kl - likelihood).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return model.eval()


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    hidden: list[nn.Module] = []
    for before in (inputs, 256):
        hidden += [nn.Linear(before, 256), nn.BatchNorm1d(256), nn.SiLU()]
    return nn.Sequential(*hidden, nn.Linear(256, outputs))


def classifier(x: Tensor, y: Tensor, shape: tuple[int, ...], seed: int, more: More | None = None) -> nn.Module:
    """Trained on rows x (N, D); where there is ``more``, half of each batch is what that makes of the batch."""
    torch.manual_seed(seed)
    height, width = (side // 2 for side in shape)
    model = nn.Sequential(
        *(nn.Unflatten(1, (1, *shape)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * height * width, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(JUDGE_STEPS):
        chosen = torch.randint(len(x), (64,))
        rows, labels = x[chosen], y[chosen]
        if more is not None:
            made, of = more(rows[:32], labels[:32])
            rows, labels = torch.cat([made, rows[32:]]), torch.cat([of, labels[32:]])
        optimizer.zero_grad()
        F.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    return model.eval()


def augmentation(config: Config, data: Dataset, seed: int, add: Add) -> None:
    """Accuracy on all test rows, of classifiers that learn from few rows, and from models of these rows alone."""
    shape = data.shape
    x, test = (_bits(data, rows) for rows in (data.train, data.test))
    y, test_y = data.train_labels, data.test_labels
    assert y is not None
    assert test_y is not None
    generator = torch.Generator().manual_seed(seed)
    for count in (100, 1000, 10_000):
        if count > len(x):
            continue
        chosen = torch.randperm(len(x), generator=generator)[:count]
        few, of = x[chosen], y[chosen]
        ways_to_more: dict[str, Any] = {
            "real rows alone": None,
            "5 % of pixels flipped": lambda rows, labels: ((rows - (torch.rand_like(rows) < 0.05).float()).abs(), labels),
            "shifted by up to a pixel": lambda rows, labels: (_shifted(rows, shape), labels),
            "conditional Gaussian VAE": _from(_gaussian_samples(few, of, seed)),
            "the model, told the class": _from(_samples(config, few, of, test, shape, seed)),
        }
        for name, more in ways_to_more.items():
            found = classifier(few, of, shape, seed, more)
            with torch.no_grad():
                accuracy = (torch.cat([found(part).argmax(1) for part in test.split(1000)]) == test_y).float().mean()
            add(f"augment: {count} rows", name, accuracy=float(accuracy))


def _bits(data: Dataset, rows: Tensor) -> Tensor:
    return (data.values(rows).flatten(1) >= 0.5).float()


def _shifted(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    down, right = torch.randint(-1, 2, (2,)).tolist()
    padded = F.pad(rows.view(-1, *shape), (1, 1, 1, 1))
    return padded[:, 1 + down : 1 + down + shape[0], 1 + right : 1 + right + shape[1]].reshape(len(rows), -1)


def _from(samples: tuple[Tensor, Tensor]) -> More:
    """Samples in the place of rows, whatever these are."""

    def more(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(samples[0]), (len(rows),))
        return samples[0][chosen], samples[1][chosen]

    return more


def _gaussian_samples(x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    model = GaussianVAE.trained(x, y, seed, CLASSES)
    labels = y[torch.randint(len(y), (SAMPLES,))]
    return (model.decode(torch.randn(SAMPLES, LATENTS), labels) >= 0.5).float(), labels


def _samples(config: Config, x: Tensor, y: Tensor, test: Tensor, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Of a model with label units that was trained on these rows alone."""
    with tempfile.TemporaryDirectory() as folder:
        run = _told(config, x, y, test, shape, Path(folder))
        wanted = {int(label): round(SAMPLES * float((y == label).float().mean())) for label in y.unique()}
        made = list(samples_of(run, wanted, None, seed, Progress()))
    labels = torch.cat([torch.full((len(images),), label) for label, images in made])
    return (torch.cat([torch.from_numpy(images).flatten(1) for _, images in made]) >= 0.5).float(), labels


def _told(config: Config, x: Tensor, y: Tensor, test: Tensor, shape: tuple[int, ...], folder: Path) -> Run:
    """A run like another, of a model with label units and of these rows."""
    chosen = config.model_copy(deep=True)
    chosen.model.latent.label_units = "one-hot"
    chosen.training.batch_size = min(256, max(BATCH, len(x) // 4))
    chosen.evaluation.log_z_temperatures = 10
    chosen.training.epochs = max(1, STEPS // (len(x) // chosen.training.batch_size))
    images = (rows.view(-1, *shape).numpy() for rows in (x, test[:50]))
    rows = dict(zip(("train", "test"), images, strict=True)) | {"train_labels": y.numpy(), "binarize": "threshold"}
    return qvae.train(chosen, folder / "run", data=rows)


def interpolation_and_style(run: Run, seed: int, add: Add) -> None:
    """Both, with one classifier and one Gaussian VAE of the run's training rows."""
    data = run.dataset
    x, y = _bits(data, data.train[:10_000]), data.train_labels
    assert y is not None
    y = y[: len(x)]
    judge, vae = classifier(x, y, run.model.shape, seed), GaussianVAE.trained(x, y, seed)
    _interpolation(run, judge, vae, x, seed, add)
    _style(run, judge, vae, x, y.numpy(), seed, add)


def _dataset(run: Run, rows: Tensor) -> Dataset:
    """Whose test rows are these bits (N, D)."""
    images = rows.view(-1, *run.model.shape).numpy()
    return dataset_from_arrays(images, images, binarize="threshold", name="rows")


def _interpolation(run: Run, judge: nn.Module, vae: GaussianVAE, train: Tensor, seed: int, add: Add) -> None:
    """Images inside of paths between test rows: how sure the classifier is of them, and how far the nearest training row is."""
    generator = torch.Generator().manual_seed(seed)
    rows = _bits(run.dataset, run.dataset.test[torch.randperm(len(run.dataset.test), generator=generator)[: PAIRS + 1]])
    data = _dataset(run, rows)
    found: dict[str, list[Tensor]] = {"the model: landscape": [], "the model: straight": []}
    barriers: dict[str, list[float]] = {name: [] for name in found}
    for pair in ways(run.model, data, FRAMES, 64, seed, Progress()):
        for name, way in zip(found, pair, strict=True):
            found[name].append(torch.from_numpy(way.images).flatten(1))
            barriers[name].append(way.barrier)
    none = torch.zeros(len(rows), dtype=torch.int64)
    codes, t = vae.means(rows, none), torch.linspace(0, 1, FRAMES).unsqueeze(1)
    pairs = list(itertools.pairwise(codes))
    found["Gaussian VAE: great circle"] = [vae.decode(great_circle(a, b, FRAMES), none) for a, b in pairs]
    found["Gaussian VAE: straight"] = [vae.decode(torch.lerp(a, b, t), none) for a, b in pairs]
    found["pixels, cross-faded"] = [torch.lerp(a, b, t) for a, b in itertools.pairwise(rows)]
    for name, paths in found.items():
        inside = torch.cat([path[1:-1] for path in paths])
        with torch.no_grad():
            sure = judge((inside >= 0.5).float()).softmax(1).amax(1).mean()
        measures = {"sure": float(sure), "nearest": float(torch.cdist((inside >= 0.5).float(), train).square().amin(1).mean())}
        if name in barriers:
            measures["barrier"] = float(np.mean(barriers[name]))
        add("interpolate", name, **measures)


def _style(
    run: Run, judge: nn.Module, vae: GaussianVAE, train: Tensor, labels: np.ndarray, seed: int, add: Add
) -> None:
    """A grid of rows in the style of others: the part that is of its content's class, and how ink follows the style row's."""
    order = torch.randperm(len(run.dataset.test), generator=torch.Generator().manual_seed(seed))
    sets = [_bits(run.dataset, run.dataset.test[part]) for part in (order[:MIXED], order[MIXED : 2 * MIXED])]
    data = [_dataset(run, rows) for rows in sets]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        told = _told(run.config, train, torch.from_numpy(labels), sets[0], run.model.shape, Path(folder))
        for name, one in (("the model", run), ("the model, with label units", told)):
            is_content = content_latents(one, *data, None)[0]
            a, b = (next(places(one.model, part, seed)) for part in data)
            found[name] = in_style(one.model, a, b, is_content).flatten(2)
    none = torch.zeros(max(len(train), MIXED**2), dtype=torch.int64)
    found["Gaussian VAE"] = _mixed(
        vae.means(train, none), [vae.means(rows, none) for rows in sets], labels, lambda u: vae.decode(u, none[: len(u)])
    )
    pca = PCA(min(LATENTS, train.shape[1] - 1), random_state=0).fit(train.numpy())
    spaces = [torch.from_numpy(pca.transform(rows.numpy())).float() for rows in (train, *sets)]
    found["PCA"] = _mixed(spaces[0], spaces[1:], labels, lambda u: torch.from_numpy(pca.inverse_transform(u.numpy())).float())
    found["pixels, halved and added"] = (sets[0].unsqueeze(1) + sets[1].unsqueeze(0)) / 2
    with torch.no_grad():
        classes = judge(sets[0]).argmax(1)
        for name, grid in found.items():
            taken_for = judge((grid.flatten(0, 1) >= 0.5).float()).argmax(1).view(MIXED, MIXED)
            kept = (taken_for == classes.unsqueeze(1)).float().mean()
            ink = [np.corrcoef(line.sum(1), sets[1].sum(1))[0, 1] for line in grid]
            add("style", name, content_kept=float(kept), ink_follows_style=float(np.mean(ink)))


def _mixed(train: Tensor, sets: list[Tensor], labels: np.ndarray, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """A grid by real codes, whose content is in those that know more of the class than the mean."""
    knowledge = class_information(train.numpy(), labels, False)
    mask = torch.from_numpy(knowledge > knowledge.mean())
    mixed = torch.where(mask, sets[0].unsqueeze(1), sets[1].unsqueeze(0))
    return decode(mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])
