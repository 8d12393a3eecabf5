"""Short mono clips as spectrograms, which a Gaussian likelihood takes as images, and back to sound; folders of WAV files."""

from __future__ import annotations

import math
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qvae.config.schema import SOUND_ENDING
from qvae.data.dataset import Dataset, Kind
from qvae.data.kinds import make_dataset
from qvae.data.opened import require_file
from qvae.data.split import hold_out
from qvae.errors import DataError
from qvae.files import from_user
from qvae.memory import require_memory

_QUIET = 1e-3
"""Added to magnitudes before their logarithm is taken: what is quieter is all alike."""
_FULL = 2**15  # the loudest sample of 16 bits
_SECONDS = 0.032  # of a window: longer than the period of a low voice, shorter than a syllable
_SMALLEST_WINDOW, _MOST_NUMBERS = 16, 2**17  # samples, and numbers of a spectrogram: four seconds at 16,000 a second


def load_sound_folder(name: str, kind: Kind) -> Dataset:
    """The spectrograms of the clips in a folder, a tenth of them held out, by the window that :func:`window_of` chooses.

    Raises:
        DataError: the likelihood is of other data than reals, files can't be taken (:func:`read_wavs`), or clips are too short
            or too long.
    """
    if kind != "reals":
        raise DataError(f"{name} holds sound, but the model's likelihood takes {kind}; set model.likelihood=gaussian.")
    clips, rate = read_wavs(name)
    window = window_of(rate)
    seconds = f"the clips in {name} last {clips.shape[1] / rate:.3g} s, {clips.shape[1]:,} samples"
    if clips.shape[1] < window:
        raise DataError(f"{seconds}, which is less than one window of {window}; take longer ones.")
    size = (window // 2 + 1) * (1 + 4 * clips.shape[1] // window)
    if size > _MOST_NUMBERS:
        most = f"that are spectrograms of {size:,} numbers, and {_MOST_NUMBERS:,} are the most"
        raise DataError(f"{seconds}: {most}; cut them into shorter ones, or save them at a lower rate than {rate:,}.")
    require_memory(4 * size * len(clips), f"{len(clips):,} spectrograms", "take fewer clips", DataError)
    split = hold_out(spectrogram(clips, window).numpy(), None, name)
    return replace(make_dataset(name, split, kind, "dynamic", levels=None), rate=rate)


def window_of(rate: int) -> int:
    """The power of two that is nearest to 32 ms, in samples.

    >>> window_of(4000), window_of(16000), window_of(44100)
    (128, 512, 1024)
    """
    return max(_SMALLEST_WINDOW, 2 ** round(math.log2(_SECONDS * rate)))


def spectrogram(waves: Tensor, window: int = 256) -> Tensor:
    """Logarithms of the short-time Fourier transform's magnitudes, (N, window / 2 + 1, 1 + 4 S / window), float32.

    Args:
        waves: clips of S samples, (N, S), from -1 to 1.
        window: samples of a Hann window, of which each overlaps the next by three quarters; S must be half of it or more.
    """
    return (_transform(waves.float(), window).abs() + _QUIET).log()


def waveform(spectrograms: Tensor, window: int = 256, rounds: int = 60, seed: int = 0) -> Tensor:
    """Clips (N, S) with these spectrograms (N, window / 2 + 1, T), nearly: their phases, which are lost, are found anew.

    From random phases on, those of the transform of the clip that the last ones gave are taken, again and again: D. W. Griffin,
    J. S. Lim, "Signal estimation from modified short-time Fourier transform" (1984). What is no clip's spectrogram, such as a
    mean of several, comes out as the nearest that is found.

    Args:
        spectrograms: as :func:`spectrogram` makes them.
        window: as it was there.
        rounds: how often.
        seed: of the first phases.
    """
    magnitudes = (spectrograms.float().exp() - _QUIET).clamp_min(0)
    angles = 2 * torch.pi * torch.rand(magnitudes.shape, generator=torch.Generator().manual_seed(seed)).to(magnitudes)
    waves = _inverse(torch.polar(magnitudes, angles), window)
    for _ in range(rounds):
        waves = _inverse(torch.polar(magnitudes, _transform(waves, window).angle()), window)
    return waves


def _transform(waves: Tensor, window: int) -> Tensor:
    hann = torch.hann_window(window, device=waves.device)
    return torch.stft(waves, window, window // 4, window=hann, return_complex=True)


def _inverse(transform: Tensor, window: int) -> Tensor:
    return torch.istft(transform, window, window // 4, window=torch.hann_window(window, device=transform.device))


def read_wavs(folder: str | Path) -> tuple[Tensor, int]:
    """The clips of all .wav files in a folder, in order of their names, (N, S), from -1 to 1, and their samples a second.

    Raises:
        DataError: there are none, or one is no mono WAV of 16 bits, or of another rate or length than the first.
    """
    files = wav_files(folder)
    clips, rates = zip(*map(read_wav, files), strict=True)
    for file, clip, rate in zip(files, clips, rates, strict=True):
        if (rate, len(clip)) != (rates[0], len(clips[0])):
            first = f"{files[0].name} {len(clips[0]):,} at {rates[0]:,} a second"
            raise DataError(f"{file} has {len(clip):,} samples at {rate:,} a second, but {first}; make all alike.")
    return torch.from_numpy(np.stack(clips)), rates[0]


def wav_files(folder: str | Path) -> list[Path]:
    """All .wav files in a folder, in order of their names.

    Raises:
        DataError: there are none.
    """
    files = sorted(file for file in from_user(folder).glob("*") if file.suffix.lower() == SOUND_ENDING)
    if not files:
        raise DataError(f"{folder} holds no .wav files.")
    return files


def read_wav(file: Path) -> tuple[np.ndarray, int]:
    """A clip, (S,), from -1 to 1, and its samples a second.

    Raises:
        DataError: it is no mono WAV of 16 bits.
    """
    require_file(file)
    try:
        with wave.open(str(file), "rb") as sound:
            form = sound.getnchannels(), 8 * sound.getsampwidth()
            content, rate = sound.readframes(sound.getnframes()), sound.getframerate()
    except (wave.Error, EOFError, OSError) as error:
        reason = str(error) or "it ends early"
        raise DataError(f"{file} can't be read as a WAV file ({reason}); save it as 16-bit PCM.") from None
    if form != (1, 16):
        raise DataError(f"{file} has {form[0]} channel{'s' * (form[0] > 1)} of {form[1]} bits; save it as mono of 16 bits.")
    return np.frombuffer(content, "<i2").astype(np.float32) / _FULL, rate


def write_wavs(folder: str | Path, waves: Tensor, rate: int) -> Sequence[Path]:
    """Clips (N, S) as 0000.wav, 0001.wav and so on, mono of 16 bits; what is louder than 1 is cut.

    Raises:
        DataError: the folder can't be written to.
    """
    place = from_user(folder)
    files = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(waves.cpu().numpy()):
            files.append(place / f"{number:04}.wav")
            with wave.open(str(files[-1]), "wb") as sound:
                sound.setparams((1, 2, rate, len(clip), "NONE", ""))
                sound.writeframes((_FULL * clip).round().clip(-_FULL, _FULL - 1).astype("<i2").tobytes())
    except OSError as error:
        raise DataError(f"{folder} can't be written to: {error.strerror or error}; name another folder.") from error
    return files


def write_clips(folder: str | Path, spectrograms: Tensor, rate: int) -> Sequence[Path]:
    """Spectrograms (N, window / 2 + 1, T), made sound by :func:`waveform`, as :func:`write_wavs` writes them.

    Raises:
        DataError: the folder can't be written to.
    """
    return write_wavs(folder, waveform(spectrograms, window=2 * (spectrograms.shape[1] - 1)), rate)
