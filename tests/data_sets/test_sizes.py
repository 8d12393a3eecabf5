"""How much memory readers of files ask for before they take it: by hand, from the sizes of small files."""

import wave

import numpy as np
import pytest
from PIL import Image

from qvae.config.schema import DataConfig
from qvae.data import images, opened, sound, strings, tables
from qvae.data.load import load_data


@pytest.fixture
def asked(monkeypatch):
    """Bytes that each reader asks for, by what they are for."""
    found = {}

    def require(num_bytes, what, remedy, error):
        found[what] = num_bytes

    for module in (images, opened, sound, strings, tables):
        monkeypatch.setattr(module, "require_memory", require)
    return found


def test_strings_as_they_are_read_and_as_rows(asked, tmp_path):
    """Up to 100 bytes a letter; in rows one for each symbol of the longest."""
    names = [f"name {chr(97 + number)}" for number in range(12)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    load_data(DataConfig(name=str(tmp_path / "names.txt")), "strings")
    size = 12 * 6 + 11
    assert asked == {f"{tmp_path}/names.txt, read,": 100 * size, f"{tmp_path}/names.txt, as rows,": 12 * 6}


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_images_of_the_size_that_they_get(mode, channels, asked, tmp_path):
    for number in range(10):
        Image.new(mode, (6, 4)).save(tmp_path / f"{number}.png")
    load_data(DataConfig(name=str(tmp_path)))
    load_data(DataConfig(name=str(tmp_path), size=[2, 3]))
    assert asked == {"10 images of 4 x 6": 10 * 24 * channels, "10 images of 2 x 3": 10 * 6 * channels}


def test_arrays_as_they_unpack(asked, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((20, 4, 4)), labels=np.zeros(20, int))
    load_data(DataConfig(name=str(tmp_path / "a.npz")))
    heads = 2 * 128  # of the two .npy files
    assert asked == {f"{tmp_path}/a.npz, unpacked,": 20 * 16 * 8 + 20 * 8 + heads}


def test_spectrograms_of_all_clips(asked, tmp_path):
    """At 4,000 samples a second a window has 128 of them: 65 frequencies, and a frame for each quarter of one, and one more."""
    for number in range(10):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 4000, 512, "NONE", ""))
            file.writeframes(np.random.default_rng(number).integers(-9, 9, 512).astype("<i2").tobytes())
    data = load_data(DataConfig(name=str(tmp_path)), "reals")
    assert data.shape == (65, 17)
    assert asked == {"10 spectrograms": 10 * 65 * 17 * 4}
