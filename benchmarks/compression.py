"""Bits an image by a trained run, beside other ways: without loss, of images cut to bits, and bits against distortion.

    python benchmarks/compression.py RUN --rows 10000 --set data.root=FOLDER --out compression.png

PNG, WebP and JPEG take all images as one mosaic, so that their headers don't count; PNG and WebP take single ones, too. PCA and
the autoencoder, of hidden widths 512 and 512, are fitted to 10,000 training images. Their numbers are rounded to multiples of
a step and cost their empirical entropy, each by itself: no real coder would be as short. PNG loses nothing by itself: grey
levels are rounded to fewer before.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA
from torch import nn

import qvae
from qvae.applications.compress import compress
from qvae.applications.decompress import decompress
from qvae.runs.run import Run

STEP = 0.7
"""Of the codes of an autoencoder, whose variance is 1, to whole multiples of which they are rounded."""

Curve = list[tuple[float, float]]  # bits an image, mean squared error


def mosaic(images: np.ndarray) -> Image.Image:
    """All images (N, H, W), 0 to 1, in one, as near to a square as can be."""
    count, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width))
    sheet[:count] = images
    sheet = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    return Image.fromarray((255 * sheet).round().astype(np.uint8))


def apart(sheet: Image.Image, count: int, shape: tuple[int, int]) -> np.ndarray:
    """The images of a mosaic."""
    height, width = shape
    pixels = np.asarray(sheet.convert("L")) / 255
    tiles = pixels.reshape(pixels.shape[0] // height, height, -1, width).swapaxes(1, 2)
    return tiles.reshape(-1, height, width)[:count]


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def by_the_run(run: Run, images: np.ndarray, lossy: bool, thrift: float = 0.0) -> tuple[float, np.ndarray, list[str]]:
    """Bits an image, the images that come back, and what is said."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "rows.npy"), images)
        outcome = compress(run, Path(folder, "rows.npy"), lossy, thrift, Path(folder, "rows.qvz"))
        back = np.load(decompress(run, outcome.files[0], Path(folder, "back.npz")).files[0])["rows"]
        return 8 * outcome.files[0].stat().st_size / len(images), back, outcome.sentences


def without_loss(run: Run, bits: np.ndarray) -> None:
    found, back, sentences = by_the_run(run, bits, lossy=False)
    assert np.array_equal(back, bits)
    print("\n".join(sentences))
    singles = [Image.fromarray(255 * image).convert("1") for image in bits]
    sheet = mosaic(bits).convert("1")
    count = len(bits)
    table = {
        "the model": found,
        "PNG, one file an image": sum(8 * len(saved(image, "PNG", optimize=True)) for image in singles) / count,
        "PNG, a mosaic": 8 * len(saved(sheet, "PNG", optimize=True)) / count,
        "WebP, one file an image": sum(8 * len(saved(i.convert("RGB"), "WEBP", lossless=True)) for i in singles) / count,
        "WebP, a mosaic": 8 * len(saved(sheet.convert("RGB"), "WEBP", lossless=True, quality=100)) / count,
        "gzip of packed bits": 8 * len(gzip.compress(np.packbits(bits).tobytes(), 9)) / count,
        "raw bits": float(bits[0].size),
    }
    for method, value in table.items():
        print(f"| without loss | {method} | {value:.1f} |")


def entropy(numbers: np.ndarray) -> float:
    """Bits of whole numbers (N, k), each column by itself."""
    total = 0.0
    for column in numbers.T:
        p = np.unique(column, return_counts=True)[1] / len(column)
        total -= float((p * np.log2(p)).sum())
    return total


def autoencoder(train: np.ndarray, size: int, steps: int = 1000) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder without any prior: codes of unit variance, with noise in between as rounding will make it."""
    torch.manual_seed(0)
    pixels, rows = train.shape[1], torch.from_numpy(train)

    def layers(inputs: int, outputs: int, last: nn.Module) -> nn.Sequential:
        widths = itertools.pairwise((inputs, 512, 512))
        hidden = [part for a, b in widths for part in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.SiLU())]
        return nn.Sequential(*hidden, nn.Linear(512, outputs), last)

    encoder, decoder = layers(pixels, size, nn.BatchNorm1d(size, affine=False)), layers(size, pixels, nn.Sigmoid())
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (256,))]
        codes = encoder(batch)
        loss = (decoder(codes + STEP * (torch.rand_like(codes) - 0.5)) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return encoder.eval(), decoder.eval()


def with_loss(run: Run, train: np.ndarray, grey: np.ndarray) -> dict[str, Curve]:
    flat, shape = grey.reshape(len(grey), -1).astype(np.float32), grey.shape[1:]
    curves: dict[str, Curve] = {}

    def add(method: str, bits: float, back: np.ndarray) -> None:
        curves.setdefault(method, []).append((bits, float(((back.reshape(flat.shape) - flat) ** 2).mean())))

    for thrift in (0.0, 1.0, 3.0):
        bits, back, _ = by_the_run(run, grey, lossy=True, thrift=thrift)
        add("the model", bits, back)
    for size in (4, 8, 16, 32, 64, 128):
        if size < flat.shape[1]:
            pca = PCA(size, random_state=0).fit(train)
            numbers = np.rint(pca.transform(flat))
            add("PCA", entropy(numbers), pca.inverse_transform(numbers).clip(0, 1))
    for size in (8, 32):
        encoder, decoder = autoencoder(train, size)
        with torch.no_grad():
            codes = encoder(torch.from_numpy(flat))
            for step in (STEP / 2, STEP, 2 * STEP):
                numbers = (codes / step).round()
                add(f"autoencoder, {size} numbers", entropy(numbers.numpy()), decoder(numbers * step).numpy())
    sheet = mosaic(grey)
    for levels in (2, 3, 4, 6, 8, 16):
        coarse = np.rint(grey * (levels - 1)) / (levels - 1)
        content = saved(mosaic(coarse).quantize(levels), "PNG", optimize=True)
        add("PNG, of fewer grey levels", 8 * len(content) / len(grey), coarse)
    for kind in ("JPEG", "WEBP"):
        for quality in (1, 5, 10, 20, 40):
            content = saved(sheet, kind, quality=quality)
            back = apart(Image.open(io.BytesIO(content)), len(grey), shape)
            add(kind.replace("WEBP", "WebP"), 8 * len(content) / len(grey), back)
    return curves


def picture(curves: dict[str, Curve], file: str) -> None:
    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    for method, points in curves.items():
        bits, errors = zip(*sorted(points), strict=True)
        axes.plot(bits, errors, "o-", markersize=3, linewidth=1, label=method)
    axes.set(xlabel="bits an image", ylabel="mean squared error", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--out", default="compression.png")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    run = qvae.load_run(arguments.run, arguments.settings)
    data = run.dataset
    train, grey = (data.values(part).numpy() for part in (data.train[:10_000], data.test[: arguments.rows]))
    without_loss(run, (grey >= 0.5).astype(np.uint8))
    curves = with_loss(run, train.reshape(len(train), -1), grey)
    for method, points in curves.items():
        for bits, error in points:
            print(f"| with loss | {method} | {bits:.1f} | {error:.4f} | {-10 * math.log10(error):.1f} |")
    picture(curves, arguments.out)


if __name__ == "__main__":
    main()
