"""Limit of infinite size: its linear discrepancy to rounding, its interval and bad arguments."""

import math

import numpy as np
import pytest
from grokphase.parameters import TeacherStudent
from grokphase.theory import limit, one_neuron

PAPER = TeacherStudent(
    input_dim=150,
    width=700,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=8 / 700,
    noise=0.18,
    cubic_strength=-0.3,
)


def test_the_linear_discrepancy_solves_its_equation_to_rounding():
    """b (1 + g/(1 - h b^2)) = 1, from noises where nothing is learned to where nearly all is."""
    noise = np.geomspace(1e-4, 1e4, 30)
    b = limit.linear_discrepancy(PAPER, noise)
    scale = 4 * 0.5 / (math.pi * 2)
    gain = scale * limit.linear_gain(PAPER, noise)
    stiffness = 1 - scale * one_neuron.effective_interaction(PAPER, noise) * b**2
    assert (stiffness > 0).all()
    np.testing.assert_allclose(b * (stiffness + gain) / stiffness, 1, rtol=1e-9)


def test_the_interval_holds_the_transitions_of_few_data():
    """Only n/noise enters: with a hundredth of the data it lies at a hundredth of the noise."""
    few = PAPER.model_copy(update={"train_size": 30})
    wanted = float(limit.limit_transition(PAPER).noise) / 100
    assert limit.limit_transition(few).noise == pytest.approx(wanted, rel=1e-9)


def test_the_strength_asked_for_is_that_of_the_transition():
    found = limit.limit_transition(PAPER, [-0.3, -0.5])
    assert found.noise[0] == pytest.approx(float(limit.limit_transition(PAPER).noise), rel=1e-12)
    other = PAPER.model_copy(update={"cubic_strength": -0.5})
    assert found.noise[1] == pytest.approx(float(limit.limit_transition(other).noise), rel=1e-12)
    assert found.noise[1] > found.noise[0]


@pytest.mark.parametrize("noise", [0.0, -1.0, math.inf, math.nan])
def test_a_noise_that_is_none_is_refused(noise):
    with pytest.raises(ValueError, match="noise must be positive and finite"):
        limit.linear_discrepancy(PAPER, [0.1, noise])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_range": (-1.0, 1.0)}, "noise_range must be 0 < low < high"),
        ({"noise_range": (0.0, 1.0)}, "noise_range must be 0 < low < high"),
        ({"scan_points": 1}, "scan_points must be at least 2, got 1"),
        ({"cubic_strength": [-0.3, math.nan]}, "cubic_strength must be finite"),
        ({"cubic_strength": math.inf}, "cubic_strength must be finite"),
    ],
)
def test_a_search_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        limit.limit_transition(PAPER, **options)
