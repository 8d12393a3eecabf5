"""The physics: Ising Hamiltonians on graphs, their exact solution, block Gibbs updates and partition functions."""
