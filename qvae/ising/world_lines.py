"""World lines of spins in a transverse field, on any graph, and their cluster updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.compiled import kernels
from qvae.ising.fused_line_sweeps import FusedLines
from qvae.ising.fused_sweeps import FusedSweeps
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.trotter import checked_slices

if TYPE_CHECKING:
    from qvae.ising.triton_lines import TritonLines

_CPU_ELEMENTS, _GPU_ELEMENTS = 2**19, 2**26  # bits of chains that are updated together
_FEWEST_CHAINS = 32  # below it, rows are too short for the processor's vectors
_PINNED = 1e9  # logit of a spin that is held


class WorldLines:
    """Cluster updates of the world lines of ``hamiltonian``'s spins, colour by colour, on a state of bits.

    By Trotter's product the Gibbs state at beta = 1 is that of P classical copies s^k of the spins (Suzuki 1976), with weight
    exp[-sum_k E(s^k)/P + sum_i K_i sum_k s_i^k s_i^(k+1)], periodic in k, where exp(-2 K_i) = tanh(gamma_i / P); any slice k is
    a sample. An update takes all spins of one colour in all slices and chains. Neighbours in imaginary time that are equal are
    joined with probability 1 - exp(-2K) (Swendsen and Wang 1987), which cuts every world line into segments; within a
    colour nothing couples these, and each takes a new sign by heat bath in the field of its neighbours summed over it (as
    Rieger and Kawashima 1999, Eur. Phys. J. B 9, 233). So nothing is rejected, and nothing slows down where K is large; a spin
    without transverse field, whose K is infinite, is never cut and turns as a whole.

    The state holds bits z = (1+s)/2 as int8, (n, P, chains), in the order of rows of :class:`BlockGibbs`.

    Args:
        hamiltonian: the distribution at beta = 1; its values are read now, see :meth:`update`.
        slices: P, even and 2 or more; 1 without a transverse field, whatever it is.

    Raises:
        ValueError: ``slices`` isn't such a number.
    """

    def __init__(self, hamiltonian: IsingHamiltonian, slices: int) -> None:
        self.slices = checked_slices(slices, hamiltonian.is_quantum)
        # A slice's classical weight is that of the Hamiltonian divided by P: block Gibbs does all that is in one slice.
        self.gibbs = BlockGibbs(self._sliced(hamiltonian))
        self.update(hamiltonian)

    def _sliced(self, hamiltonian: IsingHamiltonian) -> IsingHamiltonian:
        return hamiltonian.replace(hamiltonian.h.detach() / self.slices, hamiltonian.J.detach() / self.slices)

    def update(self, hamiltonian: IsingHamiltonian) -> None:
        """Take over new fields, couplings and transverse fields on the same graph."""
        sliced = self._sliced(hamiltonian)
        self.gibbs.update(sliced)
        self._fields = sliced.h.float()[self.gibbs.order]
        gamma = hamiltonian.gamma.detach()[self.gibbs.order]
        self._cut = torch.tanh(gamma.double() / self.slices).float().view(-1, 1, 1)  # exp(-2K)
        self._rigid = torch.nonzero(gamma == 0).squeeze(1)
        self._swept: FusedLines | TritonLines | None = None

    @property
    def _fused(self) -> FusedLines | TritonLines | None:
        """Sweeps by compiled kernels where these serve, for the values that were read last."""
        fused = kernels(self._cut.device, "ising.fused_lines")
        if fused is None:
            return None
        if self._swept is None and self._cut.device.type == "cuda":
            self._swept = fused.TritonLines(*self.gibbs.couplings, self._cut.flatten())
        elif self._swept is None:
            sweeps = self.gibbs.fused
            assert isinstance(sweeps, FusedSweeps)
            self._swept = FusedLines(fused, sweeps, self._cut.flatten())
        return self._swept

    def random_state(self, chains: int, generator: torch.Generator) -> Tensor:
        """World lines that don't change in imaginary time, independent and uniform, (n, P, chains)."""
        bits = self.gibbs.random_state(chains, generator).to(torch.int8)
        return bits.unsqueeze(1).repeat(1, self.slices, 1)

    def resliced(self, bits: Tensor) -> Tensor:
        """A state of another number of slices in this one, every slice from that nearest in imaginary time before it."""
        if bits.shape[1] == self.slices:
            return bits
        nearest = torch.arange(self.slices, device=bits.device) * bits.shape[1] // self.slices
        return bits[:, nearest]

    def to_spins(self, bits: Tensor) -> Tensor:
        """The spins of slice 0, (chains, n), int8."""
        return self.gibbs.to_spins(bits[:, 0])

    def sweep(
        self,
        bits: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor = 1.0,
        base: Tensor | None = None,
        order: Sequence[int] | None = None,
        pinned: Tensor | None = None,
    ) -> Tensor:
        """Update every world line ``num_sweeps`` times in place; returns ``bits``.

        Args:
            bits: (n, P, chains).
            num_sweeps: updates of every colour.
            generator: on the state's device.
            beta: a number or (chains,), which leads from independent spins in the same transverse field, whose bits have the
                logits ``base`` in every slice, to the Hamiltonian.
            base: (n, 1) or (n, chains), in row order; needed unless ``beta`` is 1.
            order: the colours in the order of their updates, else ascending.
            pinned: spins of slice 0 that are held, (n, chains), in row order.
        """
        blocks = range(self.gibbs.num_blocks) if order is None else order
        if (fused := self._fused) is not None:
            swept = self._without_rigid_kinks(bits.to(torch.int8).contiguous())
            fused.sweep(swept, num_sweeps, generator, beta, base, blocks, None if pinned is None else _PINNED * pinned)
            return bits if swept is bits else bits.copy_(swept)
        for part, lines in self._parts(bits):
            own_beta = beta[part] if isinstance(beta, Tensor) and beta.ndim else beta
            own_base = None if base is None else (base if base.shape[1] == 1 else base[:, part]).unsqueeze(1)
            own_pins = None if pinned is None else _PINNED * pinned[:, part]
            room = self._room(lines)
            for _ in range(num_sweeps):
                for block in blocks:
                    self._turn(lines, block, generator, room, own_beta, own_base, own_pins)
            bits[:, :, part] = lines
        return bits

    def means(self, bits: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Conditional spin means given the segments and the other colours, and the spins, both (n, P x chains) in row order.

        Chains come in parts that a cache holds. The segments are drawn anew. Replacing one factor of a product by its
        conditional mean leaves expectations as they are and lowers the variance (Rao-Blackwell).
        """
        for _, lines in self._parts(bits):
            conditional, room = torch.empty_like(lines), self._room(lines)
            for block in range(self.gibbs.num_blocks):
                rows = self.gibbs.rows(block)
                logits = self._logits(lines, block)
                _, _, joined = self._bonds(lines[rows], block, generator, room)
                _sum_segments(logits, joined)
                up = logits.sigmoid_()
                conditional[rows] = _spread(up.addcmul_(up, joined, value=-1), joined).mul_(2).sub_(1)
            yield conditional.flatten(1), lines.mul_(2).sub_(1).flatten(1)

    def transverse_means(self, bits: Tensor) -> Tensor:
        """<sigma^x_i>, (n,) in row order: the mean of tanh(gamma/P) where neighbours in time are equal, else coth(gamma/P)."""
        kinks = (bits != bits.roll(-1, 1)).sum((1, 2)) / (bits.shape[1] * bits.shape[2])
        cut = self._cut.flatten()
        return torch.where(cut > 0, (1 - kinks) * cut + kinks / cut, 0.0)

    def energies(self, bits: Tensor) -> Tensor:
        """E(s^k) / P of every slice, (P, chains)."""
        return torch.cat([self._energies(lines) for _, lines in self._parts(bits)], 1)

    def _energies(self, lines: Tensor) -> Tensor:
        spins = (2 * lines - 1).flatten(1)
        total = self._fields @ spins
        # Of two colours either one sees all the couplings; of more, each coupling is seen from both its ends.
        blocks, share = (range(1), 1.0) if self.gibbs.num_blocks == 2 else (range(self.gibbs.num_blocks), 0.5)
        for block in blocks:
            rows = self.gibbs.rows(block)
            field = self.gibbs.logits(lines.flatten(1), block) / -2 - self._fields[rows].unsqueeze(1)
            total = total + share * (spins[rows] * field).sum(0)
        return total.view(lines.shape[1:])

    def _parts(self, bits: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Chains as floats, as many at a time as are quickest together."""
        n, slices, chains = bits.shape
        elements = _CPU_ELEMENTS if bits.device.type == "cpu" else _GPU_ELEMENTS
        size = max(_FEWEST_CHAINS, elements // max(1, n * slices))
        for first in range(0, chains, size):
            part = slice(first, min(first + size, chains))
            yield part, self._without_rigid_kinks(bits[:, :, part].float().contiguous())

    def _without_rigid_kinks(self, lines: Tensor) -> Tensor:
        """Spins without transverse field made the same in all slices: a state from before it was switched off has kinks."""
        if len(self._rigid):
            lines[self._rigid] = lines[self._rigid, :1]
        return lines

    def _turn(
        self,
        lines: Tensor,
        block: int,
        generator: torch.Generator,
        room: Tensor,
        beta: float | Tensor,
        base: Tensor | None,
        pinned: Tensor | None,
    ) -> None:
        """Draw the world lines of one colour given the others."""
        rows = self.gibbs.rows(block)
        bits = lines[rows]
        logits = self._logits(lines, block, beta, base)
        if pinned is not None:
            logits[:, 0] += pinned[rows]
        parting, uniform, joined = self._bonds(bits, block, generator, room)
        closed = _sum_segments(logits, joined)
        up = logits.sigmoid_()
        # The number that cut a line decides the sign, too. Where equal neighbours were cut it is uniform below exp(-2K), at a
        # kink below 1, so that the limit scales with it; a line without cuts has one above exp(-2K) for its last slice. Where
        # the number didn't cut it is above the limit, which leaves 0.
        last, q = up[:, -1].clone(), parting[:, -1]
        up *= parting
        up[:, -1] += closed * (q + last - 2 * q * last)
        torch.lt(uniform, up, out=bits)
        _spread(bits, joined)

    def _logits(self, lines: Tensor, block: int, beta: float | Tensor = 1.0, base: Tensor | None = None) -> Tensor:
        """log p(z=1) - log p(z=0) of one colour in each slice as if it were alone, (size, P, chains), to be written to."""
        _, slices, chains = lines.shape
        field = self.gibbs.logits(lines.flatten(1), block)
        if base is not None:
            return torch.lerp(base[self.gibbs.rows(block)], field.view(-1, slices, chains), beta)
        if field.shape[1] == 1 or field.stride(1) == 0:
            field = field.clone()  # a colour without neighbours: a view of its bias
        return field.view(-1, slices, chains)

    def _room(self, lines: Tensor) -> Tensor:
        """For what :meth:`_bonds` returns; memory that is asked for anew in every update costs a tenth of the time."""
        sizes = [self.gibbs.rows(block).stop - self.gibbs.rows(block).start for block in range(self.gibbs.num_blocks)]
        return lines.new_empty(3, max(sizes, default=0), *lines.shape[1:])

    def _bonds(
        self, bits: Tensor, block: int, generator: torch.Generator, room: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For slice k and its next one, (size, P, chains) each: probability of a cut, uniform number, 1 where it didn't cut."""
        parting, uniform, joined = room[:, : len(bits)]
        torch.ne(bits[:, :-1], bits[:, 1:], out=parting[:, :-1])
        torch.ne(bits[:, -1], bits[:, 0], out=parting[:, -1])
        torch.maximum(parting, self._cut[self.gibbs.rows(block)], out=parting)
        torch.rand(bits.shape, generator=generator, out=uniform)
        torch.ge(uniform, parting, out=joined)
        return parting, uniform, joined


def _sum_segments(values: Tensor, joined: Tensor) -> Tensor:
    """Sum ``values`` (size, P, chains) over segments in place: right in the last slice of each.

    A line that is closed upon itself is cut after its last slice: ``joined`` is changed there. Returns where, (size, chains).
    """
    x, bond = values.unbind(1), joined.unbind(1)
    tail = x[0].clone()
    for k in range(1, len(x)):
        torch.addcmul(x[k], tail, bond[k - 1], out=tail)
    closed = joined.amin(1)
    bond[-1].sub_(closed)
    # What a segment across the end has gathered before it; then once more around, now from where it began.
    x[0].addcmul_(tail, bond[-1])
    for k in range(1, len(x)):
        x[k].addcmul_(x[k - 1], bond[k - 1])
    return closed


def _spread(values: Tensor, joined: Tensor) -> Tensor:
    """Carry the value in the last slice of each segment to all its slices, which are 0, in place, (size, P, chains)."""
    x, bond = values.unbind(1), joined.unbind(1)
    first = x[-1].clone()
    for k in reversed(range(len(x) - 1)):
        torch.addcmul(x[k], first, bond[k], out=first)
    x[-1].addcmul_(first, bond[-1])
    for k in reversed(range(len(x) - 1)):
        x[k].addcmul_(x[k + 1], bond[k])
    return values
