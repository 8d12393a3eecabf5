"""Jordan's gradient estimation: what its promises are worth, and models that are trained by it beside exact gradients.

    python benchmarks/jordan.py                      # on state vectors
    python benchmarks/jordan.py --executor qiskit    # on Aer
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn
from torch.nn.functional import mse_loss

import qvae
from qvae.circuits.gradients.jordan import jordan_gradient
from qvae.training.jordan import jordan_backward

X = torch.linspace(-2, 2, 16, dtype=torch.float64).unsqueeze(1)
CURVATURE = {1: 0.5, 2: 1.0, 4: 10.0}


def sigmoid_unit() -> nn.Module:
    unit = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid()).double()
    for parameter in unit.parameters():
        nn.init.zeros_(parameter)
    return unit


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)).double()


def promises(executor: qvae.Executor, runs: int) -> None:
    """How often the gradient of a sigmoid unit's loss at random parameters is within the precision."""
    target = torch.sigmoid(2 * X - 1).squeeze(1)

    def loss(points: torch.Tensor) -> torch.Tensor:
        return (torch.sigmoid(points[:, :1] * X.T + points[:, 1:]) - target).square().mean(1)

    print("| qubits each | degree | repetitions | precision | promised | kept | oracle calls | phase scale |")
    print("|---|---|---|---|---|---|---|---|")
    for qubits, degree, repetitions in ((4, 1, 5), (4, 2, 5), (4, 4, 5), (6, 2, 5), (6, 2, 15), (8, 4, 15)):
        kept = 0
        for seed in range(runs):
            at = torch.randn(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
            exact = torch.autograd.grad(loss(at.unsqueeze(0)).sum(), at)[0]
            found = jordan_gradient(loss, at, 0.3, CURVATURE[degree], executor, qubits, degree, repetitions)
            kept += bool(((found.gradient - exact).abs() <= found.precision).all())
        cost = f"{found.oracle_calls} | {found.phase_scale:,.0f}"
        kept_of = f"{found.precision:.4f} | {found.probability:.3f} | {kept}/{runs}"
        print(f"| {qubits} | {degree} | {repetitions} | {kept_of} | {cost} |", flush=True)


def twenty_qubits(executor: qvae.Executor, runs: int = 10) -> None:
    """Five parameters of four qubits each."""
    slopes = torch.tensor([0.5, -0.25, 0.125, 0.75, -0.875], dtype=torch.float64)
    kept, started = 0, time.process_time()
    for seed in range(runs):
        at = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        exact = slopes * torch.cos(at @ slopes)
        curvature = float(slopes.norm()) ** 3
        found = jordan_gradient(lambda w: torch.sin(w @ slopes), at, 0.9, curvature, executor, repetitions=15)
        kept += bool(((found.gradient - exact).abs() <= found.precision).all())
    seconds = (time.process_time() - started) / runs
    print(f"\n{found.num_qubits} qubits: promised {found.probability:.3f}, kept {kept}/{runs}, CPU {seconds:.1f} s each")


def training(name: str, make, y: torch.Tensor, steps: int, lr: float, momentum: float, **settings) -> None:
    """Loss after equally many steps of gradient descent by exact and by measured gradients."""
    losses, calls = [], 0
    started = time.perf_counter()
    for is_measured in (False, True):
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr, momentum)
        for _ in range(steps):
            optimizer.zero_grad()
            if is_measured:
                estimates = jordan_backward(model, lambda predict: mse_loss(predict(X), y), **settings)
                calls += sum(estimate.oracle_calls for estimate in estimates)
            else:
                mse_loss(model(X), y).backward()
            optimizer.step()
        losses.append(float(mse_loss(model(X), y).detach()))
    seconds = time.perf_counter() - started
    before = float(mse_loss(make()(X), y).detach())
    exact, measured = losses
    print(f"| {name} | {steps} | {before:.3f} | {exact:.1e} | {measured:.1e} | {calls:,} | {seconds:.1f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", default="statevector")
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    executor = qvae.load_executor(options.executor, seed=0)
    promises(executor, options.runs)
    twenty_qubits(executor)
    print("\n| model | steps | loss before | exact gradients | measured | oracle calls | time |\n|---|---|---|---|---|---|---|")
    unit, bump = torch.sigmoid(2 * X - 1), torch.exp(-X.square())
    training("sigmoid unit", sigmoid_unit, unit, 60, 4.0, 0.0, executor=executor, bound=0.25, curvature=1.0, qubits=6)
    training("network 1-2-1", network, bump, 40, 0.3, 0.8, executor=executor, bound=1.0, curvature=10.0, qubits=5)
    training("network 1-2-1", network, bump, 40, 0.3, 0.8, executor=executor, bound=1.0, curvature=10.0, qubits=8)


if __name__ == "__main__":
    main()
