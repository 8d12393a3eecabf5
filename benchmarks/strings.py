"""Names of a small grammar, for models of strings: made here, nothing is downloaded, and valid by a regular expression."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import qvae

ONSETS = ("b", "br", "d", "f", "g", "gr", "k", "kl", "l", "m", "n", "p", "r", "s", "st", "t", "v")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ei")
CODAS = ("", "n", "r", "l", "nd")
ENDINGS = {"a": ("us", "o"), "e": ("in", "el"), "i": ("a", "o"), "o": ("s", "n"), "u": ("la", "ra")}
"""How a name ends hangs on its first vowel, which is up to eight characters before."""
VALID = "|".join(
    f"(?:{'|'.join(ONSETS)}){first}i?(?:{'|'.join(CODAS)})(?:(?:{'|'.join(ONSETS)})(?:{'|'.join(VOWELS)})(?:{'|'.join(CODAS)}))?"
    f"(?:{'|'.join(ONSETS)})(?:{'|'.join(endings)})"
    for first, endings in ENDINGS.items()
)
NAMES = 1500
SETTINGS = [
    *("training.epochs=25", "training.batch_size=64", "evaluation.num_generated=1000", "evaluation.tsne_every=0"),
    *("evaluation.importance_samples=50", "evaluation.log_z_chains=100", "evaluation.log_z_temperatures=500"),
]
MODELS = {
    "RBM 32 + 32": [],
    "64 independent bits": ["model.latent.graph=edges", "model.latent.sizes=[64]"],
    "Gaussian VAE, 16 latents": ["model.circuit.qubits=16", "model.circuit.arm=gaussian"],
    "RBM 32 + 32, characters by themselves": ["model.likelihood=strings"],
}


def names(count: int, seed: int) -> list[str]:
    """Two or three syllables, the last of which rhymes with the first vowel."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        vowel = rng.choice(VOWELS)
        syllables = [rng.choice(ONSETS) + vowel + rng.choice(CODAS)]
        syllables += [rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)] * (rng.random() < 0.5)
        found.append("".join(syllables) + rng.choice(ONSETS) + rng.choice(ENDINGS[vowel[0]]))
    return found


def figures(seed: int, settings: list[str]) -> dict[str, dict[str, float]]:
    """Of models, an n-gram model and test strings: nats a symbol, and the parts of 1,000 that are valid, new and different."""
    found: dict[str, dict[str, float]] = {}
    for name, of_model in MODELS.items():
        kind = "vqvae" if any(text.startswith("model.circuit") for text in of_model) else None
        config = qvae.load_config("strings", [*SETTINGS, *settings, *of_model, f"training.seed={seed}"], kind)
        config.evaluation.check = VALID
        with tempfile.TemporaryDirectory() as folder:
            told = qvae.train(config, Path(folder, "run"), data=names(NAMES, seed)).evaluation
        strings = told["strings"]
        for what, of_set in strings["sets"].items():
            row = {"valid": of_set["valid"], "different": of_set["different"], "new": of_set["new"]}
            if what.startswith("draws"):
                found[name] = {"nats": told["log_likelihood"] / strings["symbols"], **row}
            elif what.startswith("n-gram"):
                found["n-gram model"] = {"nats": strings["ngram"] / strings["symbols"], **row}
            elif what.startswith("test"):
                found["test strings"] = row
    return found
