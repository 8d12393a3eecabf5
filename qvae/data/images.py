"""A folder of PNG or JPEG files, whose subfolders are classes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from qvae.config.schema import DATA_ENDINGS, DataConfig
from qvae.data.dataset import Dataset, Kind
from qvae.data.kinds import make_dataset
from qvae.data.opened import opened_image
from qvae.data.split import Split, hold_out
from qvae.errors import DataError
from qvae.memory import require_memory

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
_OTHERS = 20_000  # files
_GREY = ("1", "L", "LA")
_FINE = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits


def load_image_folder(config: DataConfig, kind: Kind) -> Dataset:
    """The images in the folder that ``config.name`` names, uint8: grey if all of them are, else in colour (RGB).

    Files lie in the folder itself, or in subfolders that are classes, numbered in sorted order. If there are the two
    subfolders ``train`` and ``test`` alone, each of them is such a folder; otherwise a tenth is held out.

    Raises:
        DataError: there are none, some can't be read, or they differ in size and ``data.size`` doesn't say what to do.
    """
    folder = Path(os.path.expanduser(config.name))
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder.absolute()}; set data.name to an existing folder of images, or to a file that ends in "
            f"{', '.join(DATA_ENDINGS)}."
        )
    has_test = _subfolders(folder) == ["test", "train"]
    parts = [folder / "train", folder / "test"] if has_test else [folder]
    classes = _subfolders(parts[0])
    files, labels = zip(*(_files(part, classes) for part in parts), strict=True)
    every = [file for part in files for file in part]
    height_width, is_grey = _common_form(every, folder, config.size)
    arrays = [_read(part, height_width, is_grey) for part in files]
    remarks: tuple[str, ...] = ()
    if classes:
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
        remarks = (f"classes of {config.name}: {numbered}.",)
    split = Split(*arrays, *labels) if has_test else hold_out(arrays[0], labels[0], config.name)
    dataset = make_dataset(config.name, split, kind, config.binarization, levels=256, remarks=remarks)
    return replace(dataset, class_names=tuple(classes))


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, classes: list[str]) -> tuple[list[Path], np.ndarray | None]:
    """Images in order of their paths, and the numbers of their classes if there are some."""
    found = image_files(folder)
    if not classes:
        return found, None
    names = [file.relative_to(folder).parts[0] for file in found]
    odd = next((name for name in names if name not in classes), None)
    if odd is not None:
        raise DataError(f"{folder} holds {odd} beside the classes {', '.join(classes)}; put it into one of them.")
    return found, np.array([classes.index(name) for name in names])


def image_files(folder: Path) -> list[Path]:
    """All images in a folder and below, in order of their paths.

    Raises:
        DataError: there are none.
    """
    found = sorted(_images_below(folder))
    if not found:
        raise DataError(f"{folder} holds no {', '.join(IMAGE_ENDINGS)} files.")
    return found


def _images_below(folder: Path) -> list[Path]:
    """All image files; a folder that holds next to nothing but other files, as a whole disk does, isn't searched to its end."""
    found: list[Path] = []
    for number, file in enumerate(folder.rglob("*")):
        if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith("."):
            found.append(file)
        if number > _OTHERS + 2 * len(found):
            others = f"more than {_OTHERS:,} files that are no images"
            raise DataError(f"{folder} holds {others}; set data.name to their own folder.")
    return found


def _common_form(files: list[Path], folder: Path, size: list[int] | None) -> tuple[tuple[int, int], bool]:
    """Height and width of all files, and whether all are grey."""
    sizes: Counter[tuple[int, int]] = Counter()
    is_grey = True
    for file in files:
        with opened_image(file) as image:
            _require_bytes(image, file)
            is_grey = is_grey and image.mode in _GREY
            sizes[ImageOps.exif_transpose(image).size[::-1]] += 1
    if size is not None:
        return (size[0], size[1]), is_grey
    if len(sizes) > 1:
        most = ", ".join(f"{h}x{w} ({count:,})" for (h, w), count in sizes.most_common(4))
        raise DataError(
            f"{folder} holds images of {len(sizes)} sizes, height x width: {most}{', ...' if len(sizes) > 4 else ''}; "
            "set data.size=[HEIGHT, WIDTH] to resize them."
        )
    return next(iter(sizes)), is_grey


def _read(files: list[Path], height_width: tuple[int, int], is_grey: bool) -> np.ndarray:
    """(N, H, W) or (N, 3, H, W), uint8."""
    height, width = height_width
    num_bytes = len(files) * height * width * (1 if is_grey else 3)
    require_memory(num_bytes, f"{len(files):,} images of {height} x {width}", "set data.size to make them smaller", DataError)
    images = np.empty((len(files), height, width) if is_grey else (len(files), 3, height, width), np.uint8)
    for row, file in enumerate(files):
        upright = upright_image(file, is_grey)
        if upright.size != (width, height):
            upright = upright.resize((width, height), Image.Resampling.LANCZOS)
        images[row] = pixels(upright)
    return images


def upright_image(file: Path, is_grey: bool) -> Image.Image:
    """An image as it is looked at, of one channel or three.

    Raises:
        DataError: it can't be read, or has more than 8 bits a channel, of which a conversion would cut off all that is bright.
    """
    with opened_image(file) as image:
        _require_bytes(image, file)
        return ImageOps.exif_transpose(image).convert("L" if is_grey else "RGB")


def _require_bytes(image: Image.Image, file: Path) -> None:
    if image.mode in _FINE:
        raise DataError(f"{file} has more than 8 bits a channel; save it with 8, or save all as floats in a .npy file.")


def pixels(image: Image.Image) -> np.ndarray:
    """(H, W), or (3, H, W) of one in colour, uint8."""
    found = np.asarray(image)
    return found if found.ndim == 2 else np.moveaxis(found, 2, 0)
