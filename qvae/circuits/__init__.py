"""The gate model: circuits of Pauli rotations on a torch state vector, and their execution through Qiskit primitives."""
