"""Gaussian-process baseline against Monte Carlo and direct linear algebra."""

import math
from unittest import mock

import numpy as np
import pytest
from grokphase.baseline import predict_baseline
from grokphase.datasets import write_dataset
from grokphase.errors import GrokphaseError
from grokphase.parameters import TeacherStudent
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.theory import BaselineSpecification
from grokphase.theory import gaussian_process as gp
from scipy.special import erf

SMALL = TeacherStudent(
    input_dim=6,
    width=50,
    train_size=40,
    weight_variance=2.0,
    readout_variance=3.0,
    noise=0.1,
    cubic_strength=-0.3,
)


def problem(parameters, n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, parameters.input_dim))
    w = rng.standard_normal(parameters.input_dim)
    return x, w / np.linalg.norm(w)


def test_kernel_is_the_covariance_of_random_networks():
    x, _ = problem(SMALL, 4)
    rng = np.random.default_rng(3)
    scale = math.sqrt(SMALL.weight_variance / SMALL.input_dim)
    features = erf(scale * rng.standard_normal((200_000, SMALL.input_dim)) @ x.T)
    products = SMALL.readout_variance * features[:, :, None] * features[:, None, :]
    error = products.std(axis=0) / math.sqrt(len(products))
    assert (np.abs(products.mean(axis=0) - gp.kernel(x, x, SMALL)) < 5 * error).all()


@pytest.mark.parametrize("degrees", [1, 5, 149, 4000])
def test_chi_square_rule_has_the_right_moments(degrees):
    nodes, weights = gp.chi_square_rule(degrees, 24)
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    moment = 1.0
    for k in range(6):
        moment *= degrees + 2 * k
        assert weights @ nodes ** (k + 1) == pytest.approx(moment, rel=1e-9)


@pytest.mark.parametrize("order", [24, 48])
def test_kernel_overlaps_match_monte_carlo(order):
    x, w = problem(SMALL, 5)
    x *= np.linspace(0.5, 3, 5)[:, None]
    linear, cubic = gp.kernel_overlaps(x, w, SMALL, order=order)
    rng = np.random.default_rng(7)
    samples = rng.standard_normal((400_000, SMALL.input_dim))
    z = samples @ w
    values = gp.kernel(samples, x, SMALL)
    # The linear part of the kernel is taken out of the cubic average: it only adds noise.
    first = values * z[:, None]
    error = first.std(axis=0) / math.sqrt(len(z))
    assert (np.abs(first.mean(axis=0) - linear) < 5 * error).all()
    slope = np.linalg.lstsq(samples, values, rcond=None)[0]
    third = (values - samples @ slope) * ((z**3 - 3 * z) / 6)[:, None]
    error = third.std(axis=0) / math.sqrt(len(z))
    assert (np.abs(third.mean(axis=0) - cubic) < 6 * error).all()
    assert (np.abs(cubic) > 10 * error).any()


def test_kernel_overlaps_in_one_dimension():
    line = SMALL.model_copy(update={"input_dim": 1, "weight_variance": 0.2})
    x = np.array([[0.7], [-1.2], [0.0]])
    linear, cubic = gp.kernel_overlaps(x, [1.0], line, order=80)
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    values = gp.kernel(nodes[:, None], x, line) * (weights / weights.sum())[:, None]
    np.testing.assert_allclose(linear, nodes @ values, atol=1e-7)
    np.testing.assert_allclose(cubic, (nodes**3 - 3 * nodes) @ values / 6, atol=1e-6)


def test_predictions_match_the_posterior_mean_on_a_test_set():
    x, w = problem(SMALL, 40)
    noises, strengths = [0.05, 0.4], [-0.3, 0.0, 0.5]
    overlaps = gp.predict_overlaps(x, w, noises, strengths, SMALL)
    assert overlaps.linear.shape == overlaps.cubic.shape == (2, 3)
    rng = np.random.default_rng(11)
    test = rng.standard_normal((400_000, SMALL.input_dim))
    z = test @ w
    field = x @ w
    cross, gram = gp.kernel(test, x, SMALL), gp.kernel(x, x, SMALL)
    for i, noise in enumerate(noises):
        for j, strength in enumerate(strengths):
            y = field + strength * (field**3 - 3 * field)
            f = cross @ np.linalg.solve(gram + noise * np.eye(40), y)
            for computed, target in (
                (overlaps.linear[i, j], f * z),
                (overlaps.cubic[i, j], f * (z**3 - 3 * z) / 6),
            ):
                error = target.std() / math.sqrt(target.size)
                assert abs(target.mean() - computed) < 5 * error


@pytest.mark.parametrize(
    ("n", "readout_variance", "noises", "factorised", "accuracy"),
    [
        (400, 0.1, [0.1, 0.2], 0, 1e-11),
        (400, 30.0, [1e-9, 1e-3, 30.0], 2, 1e-7),
        (10, 3.0, [0.1], 1, 1e-11),  # too few rows for one iteration
    ],
)
def test_overlaps_match_direct_solutions(
    monkeypatch, n, readout_variance, noises, factorised, accuracy
):
    """Where the Lanczos process converges, for the largest noise alone, and nowhere."""
    factorise = mock.Mock(wraps=gp.cho_factor)
    monkeypatch.setattr(gp, "cho_factor", factorise)
    of = SMALL.model_copy(update={"readout_variance": readout_variance})
    x, w = problem(of, n)
    overlaps = gp.predict_overlaps(x, w, noises, [0.0, -0.3], of)
    assert factorise.call_count == factorised
    gram, field = gp.kernel(x, x, of), x @ w
    left = np.stack(gp.kernel_overlaps(x, w, of))
    for i, noise in enumerate(noises):
        for j, strength in enumerate([0.0, -0.3]):
            y = field + strength * (field**3 - 3 * field)
            exact = left @ np.linalg.solve(gram + noise * np.eye(n), y)
            size = np.abs(exact).max()
            assert overlaps.linear[i, j] == pytest.approx(exact[0], abs=accuracy * size)
            assert overlaps.cubic[i, j] == pytest.approx(exact[1], abs=accuracy * size)


def test_the_lanczos_process_says_what_has_converged():
    """Residuals against those of the equations themselves; the noises are those of 25 iterations.

    Of the right-hand sides one is an eigenvector, whose Krylov space is exhausted at once, and one
    is zero.
    """
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.standard_normal((300, 300)))[0]
    matrix, noises = (basis * np.linspace(0, 1, 300)) @ basis.T, np.array([1e-6, 0.01, 0.5])
    right = np.stack([rng.standard_normal(300), basis[:, -1], np.zeros(300)], axis=1)
    products, residuals = gp._lanczos_products(matrix, noises, np.eye(300), right)
    for k, noise in enumerate(noises):
        left_over = matrix @ products[k] + noise * products[k] - right
        lengths = np.linalg.norm(left_over, axis=0)
        assert residuals[k] == pytest.approx(lengths[0] / np.linalg.norm(right[:, 0]), abs=1e-14)
        assert (lengths[1:] < 1e-14).all()
    assert residuals[0] > residuals[1] > 1e-3
    assert residuals[2] < gp._RESIDUAL


def test_a_noise_that_is_lost_in_rounding_is_named(tmp_path):
    """By the stage with the experiment and the key."""
    line = SMALL.model_copy(update={"input_dim": 1, "train_size": 200})
    dataset = DatasetSpecification(
        experiment="lines", seed=1, dataset=3, input_dim=1, train_size=200
    )
    write_dataset(dataset, tmp_path / "3.npz")
    wanted = BaselineSpecification(
        experiment="lines",
        seed=1,
        dataset=3,
        parameters=line,
        noises=[0.1, 1e-17],
        cubic_strengths=[0.1],
    )
    message = r"dataset 3: a noise of 1e-17 is lost .* see sweep\.noise .* experiments\.lines"
    with pytest.raises(GrokphaseError, match=message):
        predict_baseline(wanted, tmp_path / "3.npz", tmp_path / "baseline")
    assert not (tmp_path / "baseline").exists()


def test_lazy_network_learns_the_linear_part_and_none_of_the_cubic_one():
    paper = TeacherStudent(
        input_dim=150,
        width=700,
        train_size=1500,
        weight_variance=0.5,
        readout_variance=8.0,
        noise=0.18,
        cubic_strength=-0.3,
    )
    x, w = problem(paper, 1500)
    overlaps = gp.predict_overlaps(x, w, 0.05, [-0.3, -0.6], paper)
    assert (overlaps.linear > 0.85).all()
    assert (np.abs(overlaps.cubic) < 0.02 * 0.3).all()


def test_errors_name_what_is_wrong():
    x, w = problem(SMALL, 10)
    with pytest.raises(ValueError, match="inputs must have shape"):
        gp.predict_overlaps(x[:, :3], w, 0.1, 0.1, SMALL)
    with pytest.raises(ValueError, match="unit length"):
        gp.predict_overlaps(x, 2 * w, 0.1, 0.1, SMALL)
    with pytest.raises(ValueError, match="unit length"):
        gp.predict_overlaps(x, np.nan * w, 0.1, 0.1, SMALL)
    with pytest.raises(ValueError, match="teacher must have shape"):
        gp.predict_overlaps(x, w[:2], 0.1, 0.1, SMALL)
    with pytest.raises(ValueError, match="noises must be positive"):
        gp.predict_overlaps(x, w, [0.1, -0.1], 0.1, SMALL)
    with pytest.raises(ValueError, match="cubic_strengths"):
        gp.predict_overlaps(x, w, 0.1, [[0.1]], SMALL)


@pytest.mark.parametrize(("dimension", "accuracy"), [(6, 2e-4), (150, 1e-9)])
def test_the_usual_order_of_the_quadrature_is_enough(dimension, accuracy):
    """Against four times as many nodes; at the paper's size to rounding."""
    of = SMALL.model_copy(update={"input_dim": dimension})
    x, w = problem(of, 5)
    fine = gp.kernel_overlaps(x, w, of, order=128)
    for usual, exact in zip(gp.kernel_overlaps(x, w, of), fine, strict=True):
        np.testing.assert_allclose(usual, exact, atol=accuracy * np.abs(exact).max())


def test_no_degrees_of_freedom_leave_zero():
    nodes, weights = gp.chi_square_rule(0, 24)
    assert (nodes.tolist(), weights.tolist()) == ([0.0], [1.0])


def test_the_kernel_of_strong_weights_is_finite():
    """Rounding takes the cosine of an input with itself beyond one."""
    of = SMALL.model_copy(update={"weight_variance": 1e20})
    x = np.random.default_rng(0).standard_normal((200, 6))
    found = gp.kernel(x, x, of)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.diagonal(found), of.readout_variance, rtol=1e-6)


@pytest.mark.parametrize("length", [1.01, 0.99])
def test_a_teacher_that_is_a_little_too_long_is_refused(length):
    x, w = problem(SMALL, 5)
    with pytest.raises(ValueError, match="unit length"):
        gp.predict_overlaps(x, length * w, 0.1, 0.1, SMALL)


@pytest.mark.parametrize(
    ("noise", "strength", "message"),
    [
        (0.0, 0.1, "noises must be positive"),
        (np.inf, 0.1, "noises must be a one-dimensional array of finite"),
        (np.nan, 0.1, "noises must be a one-dimensional array of finite"),
        (0.1, np.nan, "cubic_strengths must be a one-dimensional array of finite"),
    ],
)
def test_numbers_that_are_none_are_refused(noise, strength, message):
    x, w = problem(SMALL, 5)
    with pytest.raises(ValueError, match=message):
        gp.predict_overlaps(x, w, [0.1, noise], [0.1, strength], SMALL)
