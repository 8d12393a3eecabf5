"""Damage that a training does to what the encoder sees, so that a model learns to mend it: noise, holes, coarse squares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qvae.config.names import Damage
from qvae.data.dataset import Kind
from qvae.errors import ConfigError


class Corruption:
    """Damages prepared rows (B, D), drawn anew at every call.

    salt-and-pepper
        ``amount`` of all bits are tossed anew.
    dropped
        ``amount`` of all features become 0.
    gaussian
        normal noise of standard deviation ``amount`` is added, in the data's units.
    hidden
        a rectangle of ``amount`` of the area, at a place of each row's own, has the value ``blank``; of a table, ``amount`` of
        the features.
    coarse
        squares of ``amount`` x ``amount`` pixels have their mean.

    Args:
        damage: its kind.
        amount: of it.
        kind: of data.
        shape: of a row.
        blank: of each feature, (D,).

    Raises:
        ConfigError: the amount is out of range, or these data can't have this damage.
    """

    def __init__(self, damage: Damage, amount: float, kind: Kind, shape: tuple[int, ...], blank: Tensor) -> None:
        self.damage, self.amount, self.shape, self.blank = damage, amount, shape, blank
        if damage in ("salt-and-pepper", "dropped", "hidden") and amount >= 1:
            raise ConfigError(f"training.corruption_amount is {amount:g}; of {damage} it must be below 1.")
        if kind == "strings":
            raise ConfigError(f"training.corruption is {damage}, but the model's data are strings, which have no such damage.")
        kinds = {"salt-and-pepper": ("bits",), "gaussian": ("bits", "reals"), "coarse": ("bits", "reals")}.get(damage, (kind,))
        if kind not in kinds:
            raise ConfigError(f"training.corruption is {damage}, of {' or '.join(kinds)}, but the model's data are {kind}.")
        if damage == "coarse" and not (len(shape) > 1 and amount >= 2 and all(side % amount == 0 for side in shape[-2:])):
            raise ConfigError(
                f"training.corruption is coarse, but rows of shape {shape} have no squares with sides of {amount:g} pixels; "
                "set training.corruption_amount to a whole number from 2 on that divides both sides of the images."
            )

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        if self.damage == "coarse":
            return self._coarse(rows)
        if self.damage == "gaussian":
            return rows + self.amount * torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        if self.damage == "hidden" and len(self.shape) > 1:
            return torch.where(self._rectangles(rows, generator), self.blank, rows)
        chosen = torch.rand(rows.shape, generator=generator, device=rows.device) < self.amount
        if self.damage == "salt-and-pepper":
            return torch.where(chosen, (torch.rand(rows.shape, generator=generator, device=rows.device) < 0.5).to(rows), rows)
        return torch.where(chosen, self.blank if self.damage == "hidden" else 0.0, rows)

    def _rectangles(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Where each row is hidden, (B, D)."""
        inside = []
        for side in self.shape[-2:]:
            length = max(1, round(math.sqrt(self.amount) * side))
            first = torch.randint(side - length + 1, (len(rows), 1), generator=generator, device=rows.device)
            place = torch.arange(side, device=rows.device)
            inside.append((place >= first) & (place < first + length))
        area = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
        return area.unsqueeze(1).expand(-1, math.prod(self.shape[:-2]), -1, -1).flatten(1)

    def _coarse(self, rows: Tensor) -> Tensor:
        *channels, height, width = self.shape
        side = int(self.amount)
        squares = rows.unflatten(1, (*channels, height // side, side, width // side, side))
        return squares.mean((-3, -1), keepdim=True).expand(squares.shape).flatten(1)
