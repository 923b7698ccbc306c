"""Spectrum and symmetries of the modular-addition kernel."""

import numpy as np
import pytest
from grokphase.theory import modular_kernel as kernel


@pytest.mark.parametrize("prime", [5, 7, 11, 23])
def test_three_levels_before_the_transition(prime):
    found = kernel.levels(kernel.prior_kernel(prime, 0.3))
    expected = kernel.prior_levels(prime, 0.3)
    assert [level.multiplicity for level in found] == [1, 2 * (prime - 1), (prime - 1) ** 2]
    for one, two in zip(found, expected, strict=True):
        assert one.multiplicity == two.multiplicity
        assert one.eigenvalue == pytest.approx(two.eigenvalue, rel=1e-10)
    assert found[-1].eigenvalue == pytest.approx(4 * 0.3)


@pytest.mark.parametrize("prime", [5, 7])
def test_prior_kernel_against_monte_carlo(prime):
    rng = np.random.default_rng(5)
    w, v = rng.standard_normal((2, 200_000, prime))
    phi = ((w[:, :, None] + v[:, None, :]) ** 2).reshape(len(w), -1)
    sampled = phi.T @ phi / len(w)
    exact = kernel.prior_kernel(prime)
    # Var(z^2 z'^2) is below E z^8 = 105 * 2^4.
    assert np.abs(sampled - exact).max() < 5 * np.sqrt(105 * 16 / len(w))


@pytest.mark.parametrize("prime", [5, 7])
def test_target_eigenvalue_is_four_p_squared_times_the_mean_product(prime):
    """lambda = 4 P^2 sigma_a^2 <A B>, by Monte Carlo, for weights far from the prior."""
    rng = np.random.default_rng(7)
    size, variance, power = 40_000, 0.2, 1.5
    n = np.arange(prime)
    phase = rng.uniform(0, 2 * np.pi, (2, size, 1))
    k = rng.integers(1, (prime - 1) // 2 + 1, size)
    waves = 2 * np.sqrt(power) * np.cos(2 * np.pi * k[:, None] * n / prime + phase)
    w, v = waves + 0.3 * rng.standard_normal((2, size, prime))
    phi = ((w[:, :, None] + v[:, None, :]) ** 2).reshape(size, -1)
    sampled = variance * phi.T @ phi / size
    a, b = np.abs(np.fft.fft(np.stack([w, v]), axis=-1) / prime) ** 2
    target = np.zeros((prime, prime, prime))
    i, j = np.indices((prime, prime))
    target[i, j, (i + j) % prime] = 1
    y = target.reshape(-1, prime) - 1 / prime
    rayleigh = np.trace(y.T @ sampled @ y) / np.trace(y.T @ y)
    mean_product = np.mean((a * b)[:, 1:])
    assert rayleigh == pytest.approx(4 * prime**2 * variance * mean_product, rel=1e-10)
    # The target is an eigenvector: Q y = lambda y up to the sampling error.
    residual = np.linalg.norm(sampled @ y - rayleigh * y) / np.linalg.norm(rayleigh * y)
    assert residual < 0.05


def test_kernel_commutes_with_every_symmetry():
    prime = 7
    matrix = kernel.prior_kernel(prime)
    for q in range(1, prime):
        assert kernel.symmetric(matrix, kernel.shift_permutation(prime, q))
        assert kernel.symmetric(matrix, kernel.translation_permutation(prime, q))
        assert kernel.symmetric(matrix, kernel.scaling_permutation(prime, q))
    broken = matrix.copy()
    broken[0, 1] = broken[1, 0] = 0
    assert not kernel.symmetric(broken, kernel.shift_permutation(prime, 1))


def test_scaling_needs_a_unit():
    with pytest.raises(ValueError, match="no inverse modulo 15"):
        kernel.scaling_permutation(15, 3)


@pytest.mark.parametrize(("prime", "sizes"), [(5, [4]), (23, [22]), (15, [8, 4, 2])])
def test_orbits_of_the_target_modes(prime, sizes):
    orbits = kernel.target_orbits(prime)
    assert [len(o) for o in orbits] == sizes
    assert sorted(k for orbit in orbits for k in orbit) == list(range(1, prime))


def test_mode_eigenvalues_are_the_rayleigh_quotients_of_the_kernel():
    prime, rng = 5, np.random.default_rng(2)
    w, v = rng.standard_normal((2, 4, prime))
    phi = ((w[:, :, None] + v[:, None, :]) ** 2).reshape(4, -1)
    matrix = 0.7 * phi.T @ phi / 4
    modes = np.exp(2j * np.pi * np.outer(np.arange(prime), np.arange(prime)) / prime)
    basis = np.kron(modes, modes) / prime
    direct = np.einsum("ax,xy,ay->a", basis.conj(), matrix, basis).real
    found = kernel.mode_eigenvalues(w, v, 0.7)
    np.testing.assert_allclose(found.ravel(), direct, rtol=1e-10)
    np.testing.assert_allclose(
        found[2, 3],
        0.7
        * 4
        * prime**2
        * np.mean(np.abs(np.fft.fft(w)[:, 2] * np.fft.fft(v)[:, 3]) ** 2 / prime**4),
        rtol=1e-12,
    )


def test_composite_modulus_breaks_the_degeneracy():
    rng = np.random.default_rng(3)
    spread = {}
    for modulus in (13, 15):
        w, v = rng.standard_normal((2, 30, modulus))
        values = kernel.symmetrised_target_eigenvalues(kernel.mode_eigenvalues(w, v))
        spread[modulus] = np.unique(values.round(9)).size
    assert spread == {13: 1, 15: 3}
    # The Gaussian prior itself does not notice: three levels at P = 15 too.
    assert len(kernel.levels(kernel.prior_kernel(15))) == 3


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_the_prior_kernel_memorises(fraction):
    """Trained on a part of the table, Gaussian-process regression gets every training pair right
    and no other: a label occurs once in each row and column, so its neighbours speak against it."""
    prime, noise = 11, 1e-3
    pairs = np.add.outer(np.arange(prime), np.arange(prime)).ravel() % prime
    target = np.eye(prime)[pairs] - 1 / prime
    order = np.random.default_rng(1).permutation(prime**2)
    train, held_out = np.split(order, [round(fraction * prime**2)])
    covariance = kernel.prior_kernel(prime)
    inner = covariance[np.ix_(train, train)] + noise * np.eye(len(train))
    output = covariance[:, train] @ np.linalg.solve(inner, target[train])
    correct = output.argmax(axis=1) == pairs
    assert correct[train].all()
    assert not correct[held_out].any()
    assert output[held_out, pairs[held_out]].mean() < 0
