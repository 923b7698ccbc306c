"""Gaussian-process baseline: accuracy of its quadrature, and arguments that are none."""

import numpy as np
import pytest
from grokphase.parameters import TeacherStudent
from grokphase.theory import gaussian_process as gp

SMALL = TeacherStudent(
    input_dim=6,
    width=50,
    train_size=40,
    weight_variance=2.0,
    readout_variance=3.0,
    noise=0.1,
    cubic_strength=-0.3,
)


def problem(parameters, n):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, parameters.input_dim))
    return x, np.eye(parameters.input_dim)[0]


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
