"""Kernel of the modular-addition network: spectrum and symmetries (App. B.1 of the preprint).

Inputs are the P^2 pairs (n, m), flattened as n P + m. Q(x, x') = sigma_a^2 <phi(x) phi(x')> with
phi(n, m) = (w_n + v_m)^2 is the covariance of one output over the readouts. Every kernel that
shares the symmetries of the task is diagonal in the orthonormal modes
phi_kk'(n, m) = exp(2 pi i (k n + k' m)/P)/P.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Level(NamedTuple):
    """A distinct eigenvalue and its multiplicity."""

    eigenvalue: float
    multiplicity: int


def prior_kernel(prime: int, readout_variance: float = 1.0) -> Array:
    """Kernel before the transition, sigma_a^2 [4 + 2 K^2], K = delta_nn' + delta_mm'; [P^2, P^2].

    The weights are independent N(0, 1), so Wick's theorem gives
    <z^2 z'^2> = <z^2><z'^2> + 2 <z z'>^2 with <z z'> = K and <z^2> = 2.
    """
    same = np.eye(prime)
    ones = np.ones((prime, prime))
    overlap = np.kron(same, ones) + np.kron(ones, same)
    return readout_variance * (4 + 2 * overlap**2)


def prior_levels(prime: int, readout_variance: float = 1.0) -> list[Level]:
    """Closed form of the spectrum of ``prior_kernel``, largest first.

    (0, 0): 4 P^2 + 4 P + 4; the 2(P - 1) modes (0, k), (k, 0): 2 P + 4; the (P - 1)^2 modes with
    both k, k' != 0, among them the target: 4; all times sigma_a^2.
    """
    values = (4 * prime**2 + 4 * prime + 4, 2 * prime + 4, 4)
    counts = (1, 2 * (prime - 1), (prime - 1) ** 2)
    return [Level(readout_variance * v, c) for v, c in zip(values, counts, strict=True)]


def levels(kernel: ArrayLike, tolerance: float = 1e-8) -> list[Level]:
    """Distinct eigenvalues of a symmetric kernel by diagonalisation, largest first.

    Neighbouring eigenvalues closer than ``tolerance`` times the largest are one level.
    """
    values = np.linalg.eigvalsh(np.asarray(kernel, float))[::-1]
    gap = tolerance * np.abs(values).max()
    groups = np.split(values, np.flatnonzero(-np.diff(values) > gap) + 1)
    return [Level(float(g.mean()), int(g.size)) for g in groups]


def shift_permutation(prime: int, shift: int) -> NDArray[np.int64]:
    """Symmetry I, (n, m) -> (n + q, m - q), as indices of the P^2 inputs."""
    n, m = np.divmod(np.arange(prime**2), prime)
    return (n + shift) % prime * prime + (m - shift) % prime


def translation_permutation(prime: int, shift: int) -> NDArray[np.int64]:
    """Shift of the first operand, (n, m) -> (n + q, m): a symmetry with the outputs p -> p + q."""
    n, m = np.divmod(np.arange(prime**2), prime)
    return (n + shift) % prime * prime + m


def scaling_permutation(prime: int, factor: int) -> NDArray[np.int64]:
    """Symmetry II, (n, m) -> (q n, q m), invertible only if q and P are coprime."""
    if np.gcd(factor, prime) != 1:
        raise ValueError(f"factor={factor} has no inverse modulo {prime}: scaling is no symmetry")
    n, m = np.divmod(np.arange(prime**2), prime)
    return factor * n % prime * prime + factor * m % prime


def symmetric(kernel: ArrayLike, permutation: NDArray[np.int64], tolerance: float = 1e-10) -> bool:
    """Whether the kernel commutes with a permutation of the inputs."""
    matrix = np.asarray(kernel, float)
    moved = matrix[np.ix_(permutation, permutation)]
    return bool(np.abs(moved - matrix).max() <= tolerance * np.abs(matrix).max())


def target_orbits(prime: int) -> list[list[int]]:
    """Classes of k != 0 whose target modes (k, k) are degenerate by symmetry.

    Multiplication by a unit q maps (k, k) to (q k, q k) and keeps the divisor gcd(k, P). For prime
    P there is one class; otherwise one for each divisor of P below P: at P = 15 the units, the
    multiples of 3 and those of 5.
    """
    classes: dict[int, list[int]] = {}
    for k in range(1, prime):
        classes.setdefault(math.gcd(k, prime), []).append(k)
    return [classes[key] for key in sorted(classes)]


def mode_eigenvalues(first: ArrayLike, second: ArrayLike, readout_variance: float = 1.0) -> Array:
    """Diagonal of the kernel of given neurons in the Fourier modes, [P, P] at (k, k').

    sigma_a^2 times the average over neurons of |<phi_kk', phi>|^2. Averaging a kernel over shifts
    of both operands keeps exactly this diagonal, so these are the eigenvalues of the
    translation-averaged kernel; for (k, k') both non-zero each neuron contributes 4 P^2 |w_k|^2
    |v_k'|^2.

    Parameters
    ----------
    first, second
        Input weights w, v of the neurons, [N, P].
    """
    w, v = np.atleast_2d(np.asarray(first, float)), np.atleast_2d(np.asarray(second, float))
    prime = w.shape[1]
    w_modes, v_modes = np.fft.fft(w, axis=1), np.fft.fft(v, axis=1)
    w_squares, v_squares = np.fft.fft(w**2, axis=1), np.fft.fft(v**2, axis=1)
    total = np.zeros((prime, prime))
    for neuron in range(len(w)):
        # sum_nm (w_n + v_m)^2 exp(-2 pi i (k n + k' m)/P)/P
        amplitude = 2 / prime * np.outer(w_modes[neuron], v_modes[neuron])
        amplitude[:, 0] += w_squares[neuron]
        amplitude[0, :] += v_squares[neuron]
        total += np.abs(amplitude) ** 2
    return readout_variance / len(w) * total


def symmetrised_target_eigenvalues(eigenvalues: ArrayLike) -> Array:
    """Eigenvalues on (k, k), k = 1 ... P - 1, after averaging over symmetry II, [P - 1].

    All equal for prime P; for composite P constant only on each class of ``target_orbits``.
    """
    diagonal = np.diag(np.asarray(eigenvalues, float))
    averaged = np.empty(diagonal.size - 1)
    for orbit in target_orbits(diagonal.size):
        averaged[np.array(orbit) - 1] = diagonal[orbit].mean()
    return averaged
