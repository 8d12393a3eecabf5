"""Ways through the latent space that are worth a look: single latents from end to end, and from image to image."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.models.autoencoder import Autoencoder

_STEPS = 11
_VISIBLE = 0.4  # of the range from black to white, by which a latent must change some pixel


def traversal_paths(model: Autoencoder, codes: Tensor, means: Tensor) -> tuple[Tensor, list[str]]:
    """Codes along each path, (paths, steps, n), and what the paths are.

    First up to four latents, those that change an image most, each in the code that it changes most; then straight from one
    code to the next.

    Args:
        model: of images.
        codes: of some images, (B, n).
        means: of q(z|x) of many rows, (N, n): a real latent goes from one extreme of them to the other, a bit from 0 to 1.
    """
    steps = torch.linspace(0, 1, _STEPS, device=codes.device).unsqueeze(1)
    ends = (torch.zeros(means.shape[1]), torch.ones(means.shape[1]))
    reach = torch.stack(ends if model.latents_are_bits else (means.amin(0), means.amax(0))).to(codes)
    change = torch.stack([_change_by_unit(model, code, reach) for code in codes])
    most, image = change.max(0)
    units = [unit for unit in most.argsort(descending=True).tolist() if most[unit] > _VISIBLE][:4]
    pairs = [codes[image[unit]].repeat(2, 1) for unit in units]
    for unit, pair in zip(units, pairs, strict=True):
        pair[:, unit] = reach[:, unit]
    paths = [torch.lerp(start, end, steps) for start, end in pairs]
    paths += [torch.lerp(start, end, steps) for start, end in zip(codes[::2], codes[1::2], strict=False)]
    return torch.stack(paths), [f"unit {unit}" for unit in units] + ["two images"] * (len(paths) - len(units))


def _change_by_unit(model: Autoencoder, code: Tensor, reach: Tensor) -> Tensor:
    """By how much each latent of a code (n,) changes the image between its ends: the largest change of a pixel, (n,)."""
    chosen = torch.eye(len(code), device=code.device) > 0
    low, high = (model.decode(torch.where(chosen, end, code)) for end in reach)
    return (high - low).abs().flatten(1).amax(1)
