"""One executor on one circuit after the other, with dense matrices as the measure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor
from qvae.circuits.gradients import ParameterShift
from qvae.circuits.paulis import PauliSum
from qvae.errors import CircuitError, ExecutorError
from qvae.ising.exact import state_numbers
from qvae.testing.circuit_problems import CircuitProblem, circuit_problems, coins
from qvae.testing.dense import dense_state
from qvae.testing.results import Skipped, require

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Largest error of the expectations of an executor that calls itself exact, for coefficients of about one."""


@dataclass
class CircuitTrial:
    """One executor on one problem after the other; ``log_level`` is minus the log false-alarm probability of one test."""

    executor: Executor
    num_samples: int
    log_level: float

    def bit_order(self) -> str:
        """X on qubit 1 of 3 sets column 1, and -<Z_1> only; in a second row a parameter sets qubit 2."""
        circuit = Circuit(3, [Gate("x", (1,)), Gate("rx", (2,), (Affine(0),))], num_parameters=1)
        values = torch.tensor([[0.0], [math.pi]], dtype=torch.float64)
        means = self._sampled(circuit, values, 100).double().mean(1)
        expected = torch.tensor([[0.0, 1, 0], [0, 1, 1]], dtype=torch.float64)
        slack = 0.5 if self.executor.capabilities.noisy else 1e-9
        text = f"qubits 0, 1, 2 are 1 in shares of {means.tolist()} where {expected.tolist()} are right"
        require(bool((means - expected).abs().max() < slack), text)
        found = self.executor.expectations(circuit, values, [[("IIZ", 1.0)], [("IZI", 1.0)], [("ZII", 1.0)]])
        text = f"<Z> of qubits 0, 1, 2 are {found.tolist()} where {(1 - 2 * expected).tolist()} are right"
        # An estimator may carry the error of its shots even where all shots agree.
        require(bool((found - (1 - 2 * expected)).abs().max() < (1e-6 if self.executor.capabilities.exact else 1)), text)
        return ""

    def expectations(self, problem: CircuitProblem) -> str:
        """As close to the exact ones as the shots allow, to rounding if the executor is exact."""
        before = problem.values.clone()
        found = self.executor.expectations(problem.circuit, problem.values, problem.observables)
        require(torch.equal(before, problem.values), "expectations changed the values")
        return self._compared(problem, found)

    def weights(self) -> str:
        """Parameters that all rows share may be given once, beside the others."""
        problem = circuit_problems()[-1]
        values = problem.values.clone()
        values[:, 2:] = values[0, 2:]
        found = self.executor.expectations(problem.circuit, values[:, :2], problem.observables, values[0, 2:])
        bits = self.executor.sample(problem.circuit, values[:, :2], 5, values[0, 2:])
        require(bits.shape == (len(values), 5, problem.circuit.num_qubits), f"bits have shape {tuple(bits.shape)}")
        return self._compared(replace(problem, values=values), found)

    def _compared(self, problem: CircuitProblem, found: Tensor) -> str:
        error = (found.cpu() - problem.expectations()).abs()
        weights = torch.tensor([sum(abs(weight) for _, weight in terms) for terms in problem.observables])
        if self.executor.capabilities.noisy:
            raise Skipped(f"form right; it is noisy, largest error {float(error.max()):.3f}")
        if self.executor.capabilities.exact:
            allowed = TOLERANCE[torch.float64] * torch.ones_like(weights)
        else:
            allowed = weights * math.sqrt(2 * self.log_level / self.executor.shots)
        worst = divmod(int((error - allowed).argmax()), error.shape[1])
        text = f"{float(error[worst]):.1e} is the error of {problem.observables[worst[1]]}"
        require(bool((error <= allowed).all()), f"{text}, where {float(allowed[worst[1]]):.1e} is allowed")
        return f"largest error {float(error.max()):.1e}"

    def distribution(self, problem: CircuitProblem) -> str:
        """Bits from the exact probabilities, as far as that many shots can tell."""
        bits = self._sampled(problem.circuit, problem.values, self.num_samples)
        size = 2**problem.circuit.num_qubits
        indices = state_numbers(bits)
        largest = 0.0
        for row, drawn in zip(problem.values, indices, strict=True):
            exact = torch.from_numpy(abs(dense_state(problem.circuit, row)) ** 2)
            distance = float((drawn.bincount(minlength=size) / len(drawn) - exact).abs().sum() / 2)
            expected = float((exact * (1 - exact) / len(drawn)).clamp(min=0).sqrt().sum() / 2)
            allowed = expected + math.sqrt(self.log_level / (2 * len(drawn)))
            largest = max(largest, distance)
            text = f"total variation {distance:.3f}, {allowed:.3f} allowed"
            require(self.executor.capabilities.noisy or distance <= allowed, f"not the circuit's distribution: {text}")
        if self.executor.capabilities.noisy:
            raise Skipped(f"form right; it is noisy, total variation up to {largest:.3f}")
        return f"total variation up to {largest:.3f}"

    def no_parameters(self) -> str:
        """A circuit without parameters runs for each of the empty rows."""
        circuit = Circuit(2, [Gate("x", (0,)), Gate("h", (1,))])
        values = torch.zeros(3, 0)
        means = self._sampled(circuit, values, self.num_samples).double().mean(1)
        require(bool((means[:, 0] > 0.5).all()), f"X on qubit 0 gives 1 in shares of {means[:, 0].tolist()} in three rows")
        require(bool(((means[:, 1] > 0) & (means[:, 1] < 1)).all()), "H on qubit 1 always gives the same bit")
        self.executor.expectations(circuit, values, [[("ZI", 1.0)]])
        return ""

    def any_number(self) -> str:
        """No rows and several; one shot, then more, then fewer."""
        self.executor.expectations(coins(), torch.zeros(0, 1), [[("ZII", 1.0)]])
        for rows, shots in ((0, 5), (2, 1), (2, 37), (1, 5)):
            self._sampled(coins(), torch.zeros(rows, 1), shots)
        return ""

    def fresh_randomness(self) -> str:
        """Equal rows and equal calls give different bits."""
        first, second = (self._sampled(coins(), torch.zeros(3, 1), 100) for _ in range(2))
        require(not torch.equal(first, second), "two calls returned the same bits: derive a fresh seed for each call")
        rows_differ = not (torch.equal(first[0], first[1]) or torch.equal(first[1], first[2]))
        require(rows_differ, "two rows of one call returned the same bits: derive a fresh seed for each row")
        return ""

    def precisions(self) -> str:
        """Results are as precise as values are."""
        problem = circuit_problems()[1]
        single = self.executor.expectations(problem.circuit, problem.values.float(), problem.observables)
        if self.executor.capabilities.exact:
            error = float((single.double() - problem.expectations()).abs().max())
            require(error <= TOLERANCE[torch.float32], f"in float32 the error is {error:.1e}; 1e-5 is allowed")
        return ""

    def gradients(self) -> str:
        """Those of a differentiable executor are the exact ones' differences; another one refuses to be asked for them."""
        problem = circuit_problems()[-1]
        values = problem.values.clone().requires_grad_()
        if not self.executor.capabilities.differentiable:
            self._require_refusal(ExecutorError, problem.circuit, values, problem.observables)
            return "it has none, and says so"
        (found,) = torch.autograd.grad(self.executor.expectations(problem.circuit, values, problem.observables).sum(), values)
        error = float((found - _differences(problem).sum(1)).abs().max())
        require(error < 1e-7, f"gradients are off by {error:.1e}")
        return f"largest error {error:.1e}"

    def shifted_gradients(self) -> str:
        """The parameter-shift rule finds the exact ones, as far as the shots can tell."""
        problem = circuit_problems()[0]
        able, rows, number = self.executor.capabilities, len(problem.values), len(problem.observables)
        found = ParameterShift().gradients(
            self.executor,
            problem.circuit,
            problem.values.repeat_interleave(number, 0),
            problem.observables,
            torch.eye(number, dtype=torch.float64).repeat(rows, 1),
            range(problem.circuit.num_parameters),
        ).unflatten(0, (rows, number))
        error = (found - _differences(problem)).abs()
        if able.noisy:
            raise Skipped(f"form right; it is noisy, largest error {float(error.max()):.3f}")
        # The rule is half a difference, so the errors of its two expectations add up to that of one.
        weights = torch.tensor([[sum(abs(weight) for _, weight in terms)] for terms in problem.observables])
        allowed = 1e-7 if able.exact else weights * math.sqrt(2 * self.log_level / self.executor.shots)
        require(bool((error <= allowed).all()), f"gradients by shifts are off by up to {float(error.max()):.1e}")
        return f"largest error {float(error.max()):.1e}"

    def cuda(self) -> str:
        """Values on the GPU, wherever the executor itself works."""
        if not torch.cuda.is_available():
            raise Skipped("there is no CUDA device here")
        problem = circuit_problems()[0]
        values = problem.values.cuda()
        for found in (
            self.executor.expectations(problem.circuit, values, problem.observables),
            self.executor.sample(problem.circuit, values, 5),
        ):
            require(found.device == values.device, f"results are on {found.device}, not on {values.device} as values are")
        return ""

    def too_many_qubits(self) -> str:
        """Limits are kept: the error comes before any work."""
        limit = self.executor.capabilities.max_qubits
        if limit is None:
            raise Skipped("it sets no limit")
        circuit = Circuit(limit + 1, [])
        self._require_refusal(ExecutorError, circuit, torch.zeros(1, 0), [[("Z" * (limit + 1), 1.0)]])
        return f"refuses {limit + 1} qubits"

    def wrong_values(self) -> str:
        """Values need a column for each parameter."""
        for values in (torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 1, dtype=torch.int64)):
            self._require_refusal(CircuitError, coins(), values, [[("ZII", 1.0)]])
        return ""

    def wrong_observables(self) -> str:
        """Labels need a letter for each qubit."""
        for label in ("ZI", "ZIIZ", "ZAI"):
            try:
                self.executor.expectations(coins(), torch.zeros(1, 1), [[(label, 1.0)]])
            except CircuitError:
                continue
            raise AssertionError(f"expectations took the label {label!r} for three qubits")
        return ""

    def close(self) -> str:
        """``close`` is harmless."""
        self.executor.close()
        return ""

    def _sampled(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        """Bits whose form is right, on the CPU."""
        bits = self.executor.sample(circuit, values, shots)
        strange = sorted(set(bits.unique().tolist()) - {0, 1})
        require(not strange, f"bits hold {strange[:3]}; they must be 0 or 1")
        return bits.cpu()

    def _require_refusal(self, error: type[Exception], circuit: Circuit, values: Tensor, observables: list[PauliSum]) -> None:
        methods = [("expectations", lambda: self.executor.expectations(circuit, values, observables))]
        if not values.requires_grad:
            methods.append(("sample", lambda: self.executor.sample(circuit, values, 5)))
        for name, method in methods:
            try:
                method()
            except error:
                continue
            wanted = ", with gradients" if values.requires_grad else ""
            raise AssertionError(f"{name} took values of shape {tuple(values.shape)} for {circuit.num_qubits} qubits{wanted}")


def _differences(problem: CircuitProblem) -> Tensor:
    """Derivatives of every expectation by every parameter, (B, K, P), from small steps."""
    step = 1e-5
    columns = []
    for shift in step * torch.eye(problem.values.shape[1], dtype=torch.float64):
        up, down = (problem.expectations(problem.values + sign * shift) for sign in (1, -1))
        columns.append((up - down) / (2 * step))
    return torch.stack(columns, dim=2)
