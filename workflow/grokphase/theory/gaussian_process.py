"""Gaussian-process (infinite-width) baseline of the teacher-student model.

At infinite width with fixed readout variance the posterior mean network is kernel regression with
the arcsine kernel of erf units. Such a kernel learns the linear component of the teacher and, at
n of order d^2 or less, none of the cubic one, which is the comparison feature learning is held
against.

References
----------
Williams, "Computing with infinite networks", 1996 (the kernel); Rubin, Seroussi and Ringel,
arXiv:2310.03789.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh_tridiagonal

from grokphase.parameters import TeacherStudent
from grokphase.theory.one_neuron import Array

_RESIDUAL = 1e-12
"""Residual of the linear equations over their right-hand side at which the Lanczos process ends, as
it estimates it: rounding adds about 1e-16 of the matrix over the noise, or ten times that."""

_ROWS_PER_ITERATION = 12
"""Rows of the matrix per iteration, at most, of the Lanczos process: so many take as long as eight
Cholesky factorisations (n = 3000, one thread: 13 ms for 0.4 s)."""


class Overlaps(NamedTuple):
    """Overlaps of the Gaussian-process mean with the teacher's components, [noise, cubic]."""

    linear: Array
    """E[f He_1]; the teacher has 1."""
    cubic: Array
    """E[f He_3]/6; the teacher has epsilon."""


def kernel(inputs: ArrayLike, others: ArrayLike, parameters: TeacherStudent) -> Array:
    """Prior covariance E[f(x) f(x')] of the network output, [n, m].

    sigma_a^2 (2/pi) arcsin(2 v x.x'/sqrt((1 + 2 v |x|^2)(1 + 2 v |x'|^2))), v = sigma_w^2/d. Each
    of the N neurons contributes its readout variance sigma_a^2/N, so the width drops out.

    Parameters
    ----------
    inputs, others : [n, d] and [m, d].

    Raises
    ------
    ValueError : shapes that do not match the input dimension.
    """
    x, z = _inputs(inputs, parameters), _inputs(others, parameters)
    variance = parameters.weight_variance / parameters.input_dim
    left = 1.0 + 2.0 * variance * np.sum(x**2, axis=1)
    right = 1.0 + 2.0 * variance * np.sum(z**2, axis=1)
    cosine = 2.0 * variance * (x @ z.T)
    cosine /= np.sqrt(left)[:, None]
    cosine /= np.sqrt(right)
    np.arcsin(np.clip(cosine, -1.0, 1.0, out=cosine), out=cosine)
    cosine *= parameters.readout_variance * 2.0 / math.pi
    return cosine


def _inputs(values: ArrayLike, parameters: TeacherStudent) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != parameters.input_dim:
        raise ValueError(f"inputs must have shape [n, {parameters.input_dim}], got {x.shape}")
    return x


def chi_square_rule(degrees: int, order: int) -> tuple[Array, Array]:
    """Gauss quadrature of the average over a chi-square variable, ([order], [order]).

    Generalised Gauss-Laguerre nodes with weights normalised to 1, from the eigenvectors of the
    Jacobi matrix, so that no Gamma function overflows at high dimension. With 0 degrees of freedom
    the variable is 0.
    """
    if degrees == 0:
        return np.zeros(1), np.ones(1)
    exponent = 0.5 * degrees - 1.0
    k = np.arange(order, dtype=np.float64)
    off_diagonal = np.sqrt(k[1:] * (k[1:] + exponent))
    nodes, vectors = eigh_tridiagonal(2.0 * k + 1.0 + exponent, off_diagonal)
    return np.asarray(2.0 * nodes), np.asarray(vectors[0] ** 2, dtype=np.float64)


def kernel_overlaps(
    inputs: ArrayLike, teacher: ArrayLike, parameters: TeacherStudent, *, order: int = 32
) -> tuple[Array, Array]:
    """Overlaps E[k(x, x_i) He_1(z)] and E[k(x, x_i) He_3(z)]/6, z = w*.x, x ~ N(0, I), [n] each.

    No test set is involved. The kernel is invariant under rotations, so E[k H_3(x)] for the
    third Hermite tensor is A e^3 + B (e_i delta_jk + permutations) with e = x_i/|x_i|; A and B
    follow from two averages over the component of x along e, standard normal, and the squared
    length of the rest, chi-square with d - 1 degrees of freedom.

    Parameters
    ----------
    inputs : x_i, [n, d].
    teacher : w*, [d], of unit length.
    order : Gauss nodes in each of the two directions.

    Raises
    ------
    ValueError : wrong shapes, or a teacher that is not of unit length.
    """
    x = _inputs(inputs, parameters)
    w = np.asarray(teacher, dtype=np.float64)
    d = parameters.input_dim
    if w.shape != (d,):
        raise ValueError(f"teacher must have shape [{d}], got {w.shape}")
    if not abs(np.linalg.norm(w) - 1.0) <= 1e-5:
        raise ValueError(f"teacher must have unit length, got {np.linalg.norm(w)}")
    along, along_weights = np.polynomial.hermite_e.hermegauss(order)
    # The integrands are even in the component along e.
    positive = along > 0
    along, along_weights = along[positive], along_weights[positive]
    along_weights = along_weights / along_weights.sum()
    across, across_weights = chi_square_rule(d - 1, order)
    weights = along_weights[:, None] * across_weights
    square = along[:, None] ** 2 + across
    variance = parameters.weight_variance / d
    length = np.linalg.norm(x, axis=1)
    scale = parameters.readout_variance * 2.0 / math.pi
    first, third, radial = (np.empty(length.size) for _ in range(3))
    for i, radius in enumerate(length.tolist()):
        cosine = (2.0 * variance * radius * along)[:, None] / np.sqrt(
            (1.0 + 2.0 * variance * radius**2) * (1.0 + 2.0 * variance * square)
        )
        values = weights * (scale * np.arcsin(cosine))
        first[i] = np.sum(values * along[:, None])
        third[i] = np.sum(values * (along**3 - 3.0 * along)[:, None])
        radial[i] = np.sum(values * along[:, None] * (square - (d + 2.0)))
    isotropic = (radial - third) / (d - 1) if d > 1 else np.zeros_like(third)
    directional = third - 3.0 * isotropic
    cosine = np.divide(x @ w, length, out=np.zeros_like(length), where=length > 0)
    return first * cosine, (directional * cosine**3 + 3.0 * isotropic * cosine) / 6.0


def predict_overlaps(
    inputs: ArrayLike,
    teacher: ArrayLike,
    noises: ArrayLike,
    cubic_strengths: ArrayLike,
    parameters: TeacherStudent,
) -> Overlaps:
    """Overlaps of the Gaussian-process posterior mean, exact for the given training inputs.

    Targets are noiseless, y_i = He_1(w*.x_i) + epsilon He_3(w*.x_i); the noise is the ridge. The
    mean is linear in the targets, so one kernel matrix and two right-hand sides serve every
    epsilon.

    Parameters
    ----------
    inputs : training inputs, [n, d]; n is taken from here.
    teacher : w*, [d], of unit length.
    noises, cubic_strengths : one-dimensional (a scalar counts as one value).
    parameters : variances and input dimension; its other entries are not used.

    Returns
    -------
    Overlaps with arrays [noise, cubic].

    Raises
    ------
    ValueError : wrong shapes, a noise that is not positive or lost in the rounding of the kernel,
        or a teacher that is not of unit length.
    """
    x = _inputs(inputs, parameters)
    sigma, epsilon = _vector(noises, "noises"), _vector(cubic_strengths, "cubic_strengths")
    if not (sigma > 0).all():
        raise ValueError("noises must be positive")
    linear, cubic = kernel_overlaps(x, teacher, parameters)
    projections = np.stack([linear, cubic], axis=1)
    field = x @ np.asarray(teacher, dtype=np.float64)
    components = np.stack([field, field**3 - 3.0 * field], axis=1)
    # response[noise, overlap, component] = projections^T (K + noise)^-1 components
    response = _regularised_products(kernel(x, x, parameters), sigma, projections, components)
    overlaps = response[..., 0][:, None, :] + epsilon[:, None] * response[..., 1][:, None, :]
    return Overlaps(linear=overlaps[..., 0], cubic=overlaps[..., 1])


def _regularised_products(matrix: Array, noises: Array, left: Array, right: Array) -> Array:
    """left^T (matrix + noise I)^-1 right for every noise, [noise, l, r]; overwrites `matrix`.

    At the paper's size the Lanczos process takes 16 iterations and 0.3 s for eight noises, and a
    Cholesky factorisation each 2.9 s; the results differ by 1e-14. Where noises are so small that
    it does not converge, they are factorised.
    """
    products, residuals = _lanczos_products(matrix, noises, left, right)
    # The symmetric matrix in the order of LAPACK, which would otherwise transpose a copy each time.
    matrix = matrix.T
    diagonal = np.diagonal(matrix).copy()
    for k in np.flatnonzero(~(residuals <= _RESIDUAL)):
        np.fill_diagonal(matrix, diagonal + noises[k])
        try:
            factor = cho_factor(matrix, lower=True, check_finite=False)
        except LinAlgError:
            raise ValueError(
                f"a noise of {noises[k]:g} is lost in the rounding of the kernel, whose diagonal "
                f"is about {diagonal.mean():.2g}"
            ) from None
        products[k] = left.T @ cho_solve(factor, right, check_finite=False)
    return products


def _lanczos_products(
    matrix: Array, noises: Array, left: Array, right: Array
) -> tuple[Array, Array]:
    """The same by the Lanczos process, and estimated residuals over right-hand sides, [noise].

    The Krylov spaces of a matrix and of one shifted by a noise are the same, so one of each column
    of `right` serves all noises. In them the matrix is tridiagonal, T, and a solution has the
    components (T + noise)^-1 e_1 |right|.

    Source: Golub and Van Loan, Matrix Computations, 4th ed. (2013), sections 10.1 and 11.3.
    """
    rows, columns = right.shape
    lengths = np.linalg.norm(right, axis=0)
    products = np.zeros((noises.size, left.shape[1], columns))
    residuals = np.full(noises.size, math.inf)
    before, now, coupling = np.zeros_like(right), _over(right, lengths), np.zeros(columns)
    diagonals, couplings, projections = [], [], []
    most, check = rows // _ROWS_PER_ITERATION, 8
    for iteration in range(1, most + 1):
        projections.append(left.T @ now)
        after = matrix @ now - coupling * before
        diagonals.append(np.sum(after * now, axis=0))
        after -= diagonals[-1] * now
        coupling = np.linalg.norm(after, axis=0)
        couplings.append(coupling)
        before, now = now, _over(after, coupling)
        if iteration not in (check, most):
            continue
        check += max(4, check // 4)
        residuals[:] = 0.0
        for j in range(columns):
            values, vectors = eigh_tridiagonal(
                [d[j] for d in diagonals], [c[j] for c in couplings[:-1]]
            )
            # [noise, iteration], for a right-hand side of length 1.
            solution = (vectors[0] / (values + noises[:, None])) @ vectors.T
            products[:, :, j] = lengths[j] * solution @ [p[:, j] for p in projections]
            np.maximum(residuals, coupling[j] * np.abs(solution[:, -1]), out=residuals)
        if (residuals <= _RESIDUAL).all():
            break
    return products, residuals


def _over(vectors: Array, lengths: Array) -> Array:
    """Columns over their lengths; zero where a length is, as once a Krylov space is exhausted."""
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _vector(values: ArrayLike, name: str) -> Array:
    vector: NDArray[np.float64] = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError(f"{name} must be a one-dimensional array of finite numbers")
    return vector
