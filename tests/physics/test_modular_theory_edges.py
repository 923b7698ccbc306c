"""Mean-field theory of modular addition where there is no solution, and the published average."""

import numpy as np
import pytest
from grokphase.parameters import ModularAddition
from grokphase.theory import modular_addition as theory

SMALL = ModularAddition(prime=23, width=1000, readout_variance=1.6e-8, sextic_decay=2.0, noise=1e-4)


@pytest.mark.parametrize("g", [1.001, 1.1, 1.3, 3.0])
def test_two_point_averages_are_the_published_ones(g):
    """4 e^{-S} is the weight of the side minimum; nothing is left at the origin."""
    p, gamma = SMALL.prime, SMALL.sextic_decay
    power = (g + np.sqrt(g * g - 1)) / np.sqrt(gamma)
    action = p * (power - g * np.sqrt(gamma) * power**2 + gamma / 3 * power**3)
    share = 4 * np.exp(-action) / (1 + 4 * np.exp(-action))
    found = theory.mode_averages(g * np.sqrt(gamma), p, gamma, "two_point")
    assert found.side_mass == pytest.approx(share, rel=1e-9)
    assert found.power == pytest.approx(share * power, rel=1e-9)
    assert found.product == pytest.approx(share * power**2, rel=1e-9)


def test_two_point_averages_vanish_below_the_spinodal():
    found = theory.mode_averages(0.999 * np.sqrt(2.0), 23, 2.0, "two_point")
    assert (found.product, found.power, found.side_mass) == (0, 0, 0)


def test_a_noise_within_the_jump_of_the_two_point_average_has_no_solution():
    """At g = 1 its average jumps from zero; there the mixed phase begins, with too low a barrier
    for the threshold to be passed anywhere else."""
    scale = theory.eigenvalue_scale(SMALL, "corrected")
    spinodal = np.sqrt(2 / np.sqrt(3)) * theory.closed_form(SMALL, "corrected").noise_start
    jump = theory.mode_averages(np.sqrt(2.0) * (1 + 1e-9), 23, 2.0, "two_point")
    lower = spinodal - scale * float(jump.product)
    assert jump.side_mass > 0.01
    noise = np.array([0.999 * lower, (lower + spinodal) / 2, 1.001 * spinodal])
    found = theory.branch(SMALL, noise, "corrected", "two_point")
    known = [True, False, True]
    for name in ("discrepancy", "interaction", "eigenvalue", "side_mass"):
        assert np.isfinite(getattr(found, name)).tolist() == known, name
    assert found.side_mass[0] > jump.side_mass
    assert found.side_mass[2] == 0
    start, _ = theory.boundaries(SMALL, "corrected", "two_point")
    assert start == pytest.approx(lower, rel=1e-6)


def test_the_branch_without_droplets_exists_at_every_noise():
    """a = -1, no less, also beyond the spinodal, where there is no side minimum."""
    noise = theory.closed_form(SMALL, "corrected").noise_start * np.array([0.01, 0.5, 1, 3, 100])
    found = theory.branch(SMALL, noise, "corrected", droplet_fraction=0.0)
    np.testing.assert_allclose(found.discrepancy, -1, atol=1e-8)
    assert (found.discrepancy >= -1).all()
    assert (found.eigenvalue >= 0).all()
    assert np.isfinite(found.saddles.side).tolist() == [True] * 3 + [False] * 2


def test_a_branch_beyond_its_spinodal_says_nothing():
    """The mass of its droplets neither, which is given."""
    noise = 2 * theory.closed_form(SMALL, "corrected").noise_start
    found = theory.branch(SMALL, noise, "corrected", droplet_fraction=1.0)
    for name in ("discrepancy", "interaction", "eigenvalue", "side_mass", "side_action"):
        assert np.isnan(getattr(found, name)), name
    assert not theory.droplet_budget(SMALL, found).holds


def test_actions_of_a_branch_are_those_of_its_saddles():
    noise = np.array([0.7, 0.95]) * theory.closed_form(SMALL, "corrected").noise_start
    found = theory.branch(SMALL, noise, "corrected", "quadrature")
    assert (found.side_action < found.barrier_action).all()
    assert (found.barrier_action > 0).all()
    for power, action in zip(found.saddles, (found.barrier_action, found.side_action), strict=True):
        wanted = theory.mode_action(power, power, found.interaction, 23, 2.0)
        np.testing.assert_allclose(action, wanted, rtol=1e-12)


@pytest.mark.parametrize("closure", theory.CLOSURES)
def test_the_eigenvalue_of_a_branch_is_that_of_its_average(closure):
    noise = np.array([0.7, 0.95]) * theory.closed_form(SMALL, closure).noise_start
    found = theory.branch(SMALL, noise, closure, "quadrature")
    product = theory.mode_averages(found.interaction, 23, 2.0).product
    wanted = theory.eigenvalue_scale(SMALL, closure) * product
    np.testing.assert_allclose(found.eigenvalue, wanted, rtol=1e-7)


def test_a_mixed_phase_that_never_begins_or_ends_has_no_noise():
    """At the published size so many droplets would need less than no noise."""
    of = ModularAddition(prime=401, width=1000, readout_variance=2e-6, sextic_decay=1e-4, noise=0.2)
    assert np.isnan(theory.boundaries(of, "corrected", "two_point")).all()


def test_below_the_mixed_phase_of_the_limit_every_mode_is_a_droplet():
    """a there solves the self-consistency with the side minimum's W for every mode."""
    form = theory.closed_form(SMALL, "corrected")
    noise = form.noise_end * np.array([0.3, 0.9])
    found = theory.closed_form_discrepancy(SMALL, noise, "corrected")
    interaction = theory.effective_interaction(SMALL, noise) * found**2
    side = theory.saddles(interaction, SMALL.sextic_decay).side
    eigenvalue = theory.eigenvalue_scale(SMALL, "corrected") * side**2
    np.testing.assert_allclose(found, -noise / (eigenvalue + noise), rtol=1e-8)
    at_ends = theory.closed_form_discrepancy(
        SMALL, np.array([0.999, 1.001]) * form.noise_end, "corrected"
    )
    assert at_ends == pytest.approx(form.discrepancy_end, rel=2e-2)
    assert theory.closed_form_discrepancy(SMALL, 2 * form.noise_start, "corrected") == -1


@pytest.mark.parametrize("noise", [0.0, np.inf, np.nan])
def test_a_noise_that_is_none_is_refused(noise):
    with pytest.raises(ValueError, match="noise must be positive and finite"):
        theory.branch(SMALL, np.array([1e-4, noise]), "corrected")


@pytest.mark.parametrize("fraction", [-0.1, 1.1, np.nan])
def test_a_share_of_droplets_that_is_none_is_refused(fraction):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        theory.branch(SMALL, 1e-4, "corrected", droplet_fraction=fraction)


def test_one_droplet_for_every_frequency_is_enough():
    solution = theory.branch(SMALL, np.array([1e-4]), "corrected")
    for share, holds in ((1 / 1000, True), (0.999 / 1000, False)):
        of = solution.__class__(**{**vars(solution), "side_mass": np.array([share])})
        assert theory.droplet_budget(SMALL, of).holds == [holds]


def test_the_action_along_the_diagonal_is_against_the_root_of_the_power():
    noise, roots = np.array([0.7e-4, 0.95e-4]), np.array([0.0, 0.5, 1.1])
    solution = theory.branch(SMALL, noise, "corrected")
    found = theory.diagonal_action(SMALL, roots, noise, solution)
    power = roots**2
    wanted = [
        23 * (power - u * power**2 + 2.0 / 3 * power**3) for u in solution.interaction.tolist()
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    with pytest.raises(ValueError, match=r"noise and solution\.noise differ"):
        theory.diagonal_action(SMALL, roots, noise[::-1], solution)


def test_unknown_averages_are_named():
    with pytest.raises(ValueError, match="unknown average 'exact'"):
        theory.mode_averages(1.0, 23, 2.0, "exact")


@pytest.mark.parametrize("decay", [1e-4, 1e-3, 0.3, 1.0, 1.5, 2.0, 3.0, 6.0])
def test_solutions_are_found_whatever_the_rounding_of_the_spinodal(decay):
    """At 1e-3, 0.3, 1.5, 3 and 6 the square of the root is less than gamma."""
    of = ModularAddition(
        prime=23, width=1000, readout_variance=1.6e-8, sextic_decay=decay, noise=1e-4
    )
    root = np.sqrt(decay)
    found = theory.saddles(root, decay)
    assert list(found) == pytest.approx([1 / root, 1 / root], rel=1e-6)
    noise = theory.closed_form(of, "as_published").noise_start * np.array([0.5, 0.8])
    droplets = theory.branch(of, noise, "as_published", droplet_fraction=1.0)
    side = droplets.saddles.side
    wanted = -noise / (of.readout_variance * side**2 + noise)
    np.testing.assert_allclose(droplets.discrepancy, wanted, rtol=1e-8)
