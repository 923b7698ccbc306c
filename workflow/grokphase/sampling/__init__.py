"""Markov kernels, ensembles of networks, checkpoints and convergence diagnostics."""
