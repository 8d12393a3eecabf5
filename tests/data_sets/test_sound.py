"""Clips as spectrograms and back: a tone's closed form, phases found anew, WAV files, and notes that a model learns to play."""

import math
import wave

import numpy as np
import pytest
import torch

import qvae
from qvae.applications.generate import generated
from qvae.config.load import load_config
from qvae.data.given import given_rows
from qvae.data.load import load_data
from qvae.data.sound import read_wavs, spectrogram, waveform, window_of, write_wavs
from qvae.errors import DataError

RATE, WINDOW = 4000, 64
PITCHES = (500.0, 750.0, 1000.0)  # Hz: of these windows the bins 8, 12 and 16


def tone(pitch, samples=512, loudness=0.5):
    return loudness * torch.sin(2 * math.pi * pitch * torch.arange(samples) / RATE)


def plucked(count, seed):
    """Notes of one of three pitches that fade, each of its own loudness and phase."""
    rng = np.random.default_rng(seed)
    time = np.arange(512) / RATE
    pitch, loudness = rng.choice(PITCHES, (count, 1)), rng.uniform(0.3, 0.9, (count, 1))
    notes = loudness * np.exp(-time / 0.06) * np.sin(2 * np.pi * (pitch * time + rng.random((count, 1))))
    return torch.from_numpy(notes.astype(np.float32))


def pitch_of(waves):
    """The loudest frequency of each clip, in Hz."""
    return torch.fft.rfft(waves).abs().argmax(1) * RATE / waves.shape[1]


def test_a_tone_has_the_magnitudes_of_its_closed_form():
    found = spectrogram(tone(500.0).unsqueeze(0), WINDOW)[0]
    assert found.shape == (33, 33)
    # A sine on a bin, in a Hann window of W samples: half its loudness times W / 2, a half of that in the neighbours.
    inner = found[:, 4:-4].exp() - 1e-3
    torch.testing.assert_close(inner[8], torch.full_like(inner[8], 0.5 * 0.5 * WINDOW / 2), rtol=1e-4, atol=0)
    torch.testing.assert_close(inner[[7, 9]], torch.full_like(inner[[7, 9]], 0.5 * 0.5 * WINDOW / 4), rtol=1e-3, atol=0)
    assert inner[20:].max() < 1e-3


def test_phases_are_found_anew():
    waves = plucked(6, seed=0)
    back = waveform(spectrogram(waves, WINDOW), WINDOW)
    assert back.shape == waves.shape
    wanted, found = (spectrogram(part, WINDOW).exp() for part in (waves, back))
    start = spectrogram(waveform(spectrogram(waves, WINDOW), WINDOW, rounds=0), WINDOW).exp()
    error, before = ((part - wanted).square().sum() / wanted.square().sum() for part in (found, start))
    assert error < 0.05 < before
    assert (pitch_of(back) - pitch_of(waves)).abs().max() <= RATE / 512
    assert waveform(spectrogram(waves, WINDOW), WINDOW).equal(back)


def test_wav_files_keep_sixteen_bits(tmp_path, monkeypatch):
    waves = plucked(3, seed=1)
    files = write_wavs(tmp_path / "clips", waves, RATE)
    assert [file.name for file in files] == ["0000.wav", "0001.wav", "0002.wav"]
    back, rate = read_wavs(tmp_path / "clips")
    assert rate == RATE
    assert (back - waves).abs().max() <= 0.5 / 2**15 + 1e-7
    monkeypatch.setenv("HOME", str(tmp_path))
    write_wavs("~/loud", torch.tensor([[3.0, -3.0]]), RATE)
    assert read_wavs(tmp_path / "loud")[0].tolist() == [[1 - 1 / 2**15, -1.0]]


def test_other_sounds_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.wav files"):
        read_wavs(tmp_path)
    write_wavs(tmp_path, plucked(2, seed=2), RATE)
    with wave.open(str(tmp_path / "0001.wav"), "wb") as sound:
        sound.setparams((1, 2, RATE, 0, "NONE", ""))
        sound.writeframes(bytes(20))
    with pytest.raises(DataError, match=r"0001.wav has 10 samples at 4,000 a second, but 0000.wav 512 at 4,000 a second"):
        read_wavs(tmp_path)
    with wave.open(str(tmp_path / "0001.wav"), "wb") as sound:
        sound.setparams((2, 1, RATE, 0, "NONE", ""))
        sound.writeframes(bytes(20))
    with pytest.raises(DataError, match=r"0001.wav has 2 channels of 8 bits; save it as mono of 16 bits"):
        read_wavs(tmp_path)
    (tmp_path / "0001.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"0001.wav can't be read as a WAV file"):
        read_wavs(tmp_path)


def folder_of(tmp_path, clips, rate=RATE):
    write_wavs(tmp_path / "clips", clips, rate)
    return load_config(tmp_path / "clips").data


def test_a_folder_of_clips_is_data_of_a_gaussian_likelihood(tmp_path):
    clips = plucked(20, seed=4)
    config = folder_of(tmp_path, clips)
    assert load_config(tmp_path / "clips").model.likelihood == "gaussian"
    data = load_data(config, "reals")
    assert (data.rate, window_of(RATE)) == (RATE, 128)
    assert (len(data.train), len(data.test), data.shape) == (18, 2, (65, 17))
    wanted = spectrogram(read_wavs(tmp_path / "clips")[0], 128)
    every = torch.cat([data.train, data.test])
    torch.testing.assert_close(every.sum((1, 2)).sort().values, wanted.sum((1, 2)).sort().values)


@pytest.mark.parametrize(
    ("samples", "words"),
    [(100, "last 0.025 s, 100 samples, which is less than one window of 128; take longer ones"),
     (65_600, r"last 16.4 s, 65,600 samples: .* 133,315 numbers, and 131,072 are the most; .* a lower rate than 4,000")],
)  # fmt: skip
def test_clips_too_short_or_too_long_are_refused(samples, words, tmp_path):
    config = folder_of(tmp_path, torch.zeros(10, samples))
    with pytest.raises(DataError, match=words):
        load_data(config, "reals")


def test_sound_needs_a_likelihood_of_reals(tmp_path):
    config = folder_of(tmp_path, plucked(10, seed=5))
    with pytest.raises(DataError, match="holds sound, but the model's likelihood takes bits; set model.likelihood=gaussian"):
        load_data(config, "bits")


def test_tasks_take_a_folder_of_clips_like_those_of_training(tmp_path):
    clips = plucked(3, seed=6)
    write_wavs(tmp_path / "clips", clips, RATE)
    with given_rows(tmp_path / "clips", [(33, 33)], "reals") as rows:
        assert rows.ids == ["0000.wav", "0001.wav", "0002.wav"]
        wanted = spectrogram(read_wavs(tmp_path / "clips")[0], WINDOW)
        torch.testing.assert_close(rows.dataset.values(rows.dataset.test), wanted)
    with (
        pytest.raises(DataError, match=r"0000.wav has 512 samples, but this model takes 1,024"),
        given_rows(tmp_path / "clips", [(33, 65)], "reals"),
    ):
        pass
    with (
        pytest.raises(DataError, match=r"4,000 samples a second, but this model takes 8,000, .*; resample it"),
        given_rows(tmp_path / "clips", [(33, 33)], "reals", rate=8000),
    ):
        pass
    with (
        pytest.raises(DataError, match=r"holds sound, but this model takes rows of shape \(5,\), no spectrograms"),
        given_rows(tmp_path / "clips", [(5,)], "reals"),
    ):
        pass


def test_generated_sound_is_written_as_wav_files(command, small, tmp_path):
    write_wavs(tmp_path / "clips", plucked(20, seed=7), RATE)
    code, _, err = command("train", "clips", *small, "--out", "run")
    assert (code, err) == (0, "")
    code, out, _ = command("generate", "run", "--num", 3, "--seed", 0, "--out", "made.npz")
    assert code == 0
    assert "wrote made\n" in out
    made, rate = read_wavs(tmp_path / "made")
    assert (made.shape, rate) == ((3, 512), RATE)
    wanted = waveform(torch.from_numpy(np.load(tmp_path / "made.npz")["images"]), 128).clamp(-1, 1)
    assert (made - wanted).abs().max() < 1e-4
    before = (tmp_path / "clips" / "0000.wav").read_bytes()
    code, _, err = command("generate", "run", "--num", 3, "--out", "clips.npz")  # beside the recordings
    assert (code, "folder of its name is there already" in err) == (2, True)
    assert (tmp_path / "clips" / "0000.wav").read_bytes() == before
    write_wavs(tmp_path / "faster", plucked(2, seed=8), 2 * RATE)
    code, _, err = command("apply", "embed", "run", "--input", "faster")
    assert (code, "but this model takes" in err) == (2, True)


def test_a_model_of_notes_plays_the_pitches_it_has_heard(tmp_path):
    settings = [
        "model.likelihood=gaussian", "model.latent.sizes=[4,4]", "model.network.hidden=[64]", "training.epochs=20",
        "training.batch_size=25", "evaluation.num_generated=0", "evaluation.tsne_every=0", "evaluation.importance_samples=5",
        "evaluation.log_z_chains=10", "evaluation.log_z_temperatures=20",
    ]  # fmt: skip
    run = qvae.train(qvae.load_config("digits", settings), tmp_path / "run", data=spectrogram(plucked(300, seed=3), WINDOW))
    made = torch.from_numpy(generated(run, 40, seed=0))
    found = pitch_of(waveform(made, WINDOW))
    distance = (found.unsqueeze(1) - torch.tensor(PITCHES)).abs().min(1)
    assert (distance.values < RATE / WINDOW).float().mean() > 0.8  # of all pitches a fifth are so near to one of the three
    assert len(distance.indices.unique()) == 3
