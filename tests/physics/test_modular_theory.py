"""Mean-field theory of modular addition against closed forms, quadrature and hand counts."""

import numpy as np
import pytest
from grokphase.parameters import ModularAddition
from grokphase.theory import modular_addition as theory
from pydantic import ValidationError
from scipy.integrate import dblquad
from scipy.optimize import brentq

PAPER = ModularAddition(prime=401, width=1000, readout_variance=2e-6, sextic_decay=1e-4, noise=0.2)
SMALL = ModularAddition(prime=23, width=1000, readout_variance=1.6e-8, sextic_decay=2.0, noise=1e-4)


def test_closed_forms_at_the_published_size():
    form = theory.closed_form(PAPER, "as_published")
    assert f"{form.noise_start:.4f}" == "0.2360"
    assert f"{form.noise_end:.4f}" == "0.1760"
    assert f"{form.discrepancy_end:.3f}" == "-0.746"
    assert f"{form.power:.1f}" == "173.2"


def test_closed_forms_against_root_finding():
    p, gamma = PAPER.prime, PAPER.sextic_decay

    def side_action(interaction):
        side = theory.saddles(interaction, gamma).side
        return float(theory.mode_action(side, side, interaction, p, gamma))

    degenerate = brentq(side_action, np.sqrt(gamma) * 1.0001, 4 * np.sqrt(gamma), xtol=1e-15)
    form = theory.closed_form(PAPER, "as_published")
    assert degenerate == pytest.approx(form.interaction, rel=1e-9)
    assert theory.saddles(degenerate, gamma).side == pytest.approx(form.power, rel=1e-8)
    noise = brentq(lambda s: float(theory.effective_interaction(PAPER, s)) - degenerate, 0.1, 0.5)
    assert noise == pytest.approx(form.noise_start, rel=1e-8)


@pytest.mark.parametrize("interaction", [0.0101, 0.012, 0.05])
def test_saddles_are_stationary_and_barrier_lies_between(interaction):
    gamma, p = PAPER.sextic_decay, 1
    points = theory.saddles(interaction, gamma)
    for power in points:
        step = 1e-5 * power
        for da, db in ((step, 0), (0, step)):
            up = theory.mode_action(power + da, power + db, interaction, p, gamma)
            down = theory.mode_action(power - da, power - db, interaction, p, gamma)
            assert abs(up - down) / (2 * step) < 1e-6
    values = [theory.mode_action(w, w, interaction, p, gamma) for w in points]
    assert 0 < values[0] > values[1]


def test_no_saddles_below_the_spinodal():
    assert np.isnan(theory.saddles(0.99e-2, 1e-4)).all()


@pytest.mark.parametrize("average", theory.AVERAGES)
def test_mixed_phase_follows_the_closed_form(average):
    noise = np.linspace(0.18, 0.233, 4)
    solution = theory.branch(PAPER, noise, "as_published", average)
    limit = theory.closed_form_discrepancy(PAPER, noise, "as_published")
    np.testing.assert_allclose(solution.discrepancy, limit, rtol=2e-3)
    assert ((solution.side_mass > 0.01) & (solution.side_mass < 0.99)).all()


@pytest.mark.parametrize("closure", theory.CLOSURES)
def test_solution_satisfies_self_consistency(closure):
    noise = np.array([0.4, 0.8, 1.2]) * theory.closed_form(SMALL, closure).noise_start
    solution = theory.branch(SMALL, noise, closure, "quadrature")
    mode = theory.mode_averages(solution.interaction, 23, 2.0, "quadrature")
    factor = SMALL.readout_variance * (1 if closure == "as_published" else 4 * 23**2)
    expected = -noise / (factor * mode.product + noise)
    np.testing.assert_allclose(solution.discrepancy, expected, rtol=1e-8)
    np.testing.assert_allclose(
        solution.interaction,
        2 * SMALL.readout_variance * 23**2 / (1000 * noise**2) * solution.discrepancy**2,
        rtol=1e-8,
    )


@pytest.mark.parametrize("average", theory.AVERAGES)
def test_the_self_consistency_has_one_solution(average):
    """The noise at which u a^2 is self-consistent, 1/kappa - lambda, falls with it throughout."""
    p = SMALL
    start = theory.closed_form(p, "corrected").noise_start
    highest = float(theory.effective_interaction(p, 0.3 * start))
    interaction = highest * np.exp(np.linspace(-12, 0, 400))
    kappa = np.sqrt(interaction * p.width / (2 * p.readout_variance * p.prime**2))
    product = theory.mode_averages(interaction, p.prime, p.sextic_decay, average).product
    noise = 1 / kappa - theory.eigenvalue_scale(p, "corrected") * product
    assert (np.diff(noise[noise > 0]) < 0).all()
    for ratio in (0.3, 0.9, 1.3):
        crossing = np.flatnonzero(np.diff(noise > ratio * start))
        assert len(crossing) == 1
        found = theory.branch(p, ratio * start, "corrected", average)
        between = interaction[crossing[0]], interaction[crossing[0] + 1]
        assert between[0] <= found.interaction <= between[1]


@pytest.mark.parametrize(("g", "beta"), [(0.5, 5.0), (1.05, 3.0), (1.1, 23.0), (1.3, 5.0)])
def test_quadrature_against_adaptive_integration(g, beta):
    def density(y, x):
        return np.exp(-beta * (x + y - 2 * g * x * y + (x**3 + y**3) / 3))

    top, options = 9.0, {"epsabs": 1e-13, "epsrel": 1e-7}
    total = dblquad(density, 0, top, 0, top, **options)[0]
    product = dblquad(lambda y, x: x * y * density(y, x), 0, top, 0, top, **options)[0]
    mass = 0.0
    if g > 1:
        square = (g - np.sqrt(g * g - 1)) ** 2
        mass = dblquad(density, square / top, top, lambda x: min(square / x, top), top, **options)[
            0
        ]
    mode = theory.mode_averages(g * 5 / beta, 5, (5 / beta) ** 2, "quadrature")
    scale = beta / 5
    assert mode.product * (5 / beta) ** 2 == pytest.approx(product / total, rel=1e-6)
    assert mode.side_mass == pytest.approx(mass / total, rel=1e-5, abs=1e-12)
    assert mode.power / scale == pytest.approx(_first(density, top, options, total), rel=1e-6)


@pytest.mark.parametrize("beta", [0.3, 11.46, 401])
def test_far_beyond_the_transition_every_mode_is_a_droplet(beta):
    """However narrow the side minimum is, up to the rounding of exponents of order beta g^3."""
    for g in (3.0, 8.0, 20.0, 40.0, 200.0):
        mass = theory.mode_averages(g * 5 / beta, 5, (5 / beta) ** 2).side_mass
        counted = theory.counted_mass(
            np.array(g * 5 / beta),
            SMALL.model_copy(update={"prime": 5, "sextic_decay": (5 / beta) ** 2}),
        )
        assert [mass, counted] == pytest.approx([1, 1], abs=1e-8 + 4e-15 * beta * g**3)


def test_the_end_of_the_transition_is_found_where_wells_are_wide_and_interactions_strong():
    """At P/sqrt(gamma) = 0.003 the side mass is 0.99 only at g = u a^2/sqrt(gamma) of hundreds."""
    of = SMALL.model_copy(update={"prime": 3, "sextic_decay": 1e6})
    found = theory.boundaries(of, "as_published")
    solution = theory.branch(of, np.array(found), "as_published", "quadrature")
    np.testing.assert_allclose(solution.side_mass[1], 0.99, atol=1e-4)
    assert solution.interaction[1] / 1e3 > 1.5


def _first(density, top, options, total):
    """<x> of the scaled density."""
    return dblquad(lambda y, x: x * density(y, x), 0, top, 0, top, **options)[0] / total


@pytest.mark.parametrize("g", [0.5, 1.3])
def test_counted_droplets_against_adaptive_integration(g):
    """sqrt(A B) > W/3 with W = sqrt(3/gamma), with a side minimum and without."""
    beta, top, options = 5.0, 9.0, {"epsabs": 1e-13, "epsrel": 1e-7}
    of = SMALL.model_copy(update={"prime": 5, "sextic_decay": (5 / beta) ** 2})

    def density(y, x):
        return np.exp(-beta * (x + y - 2 * g * x * y + (x**3 + y**3) / 3))

    total = dblquad(density, 0, top, 0, top, **options)[0]
    beyond = dblquad(density, 1 / 3 / top, top, lambda x: 1 / 3 / x, top, **options)[0]
    found = theory.counted_mass(np.array([g * 5 / beta, np.nan]), of)
    assert found[0] == pytest.approx(beyond / total, rel=1e-5)
    assert np.isnan(found[1])


def test_weak_interaction_recovers_the_prior():
    mode = theory.mode_averages(1e-9, 401, 1e-9, "quadrature")
    assert mode.power == pytest.approx(1 / 401, rel=1e-6)
    assert mode.product == pytest.approx(1 / 401**2, rel=1e-6)


def test_eigenvalue_scale_of_the_closures():
    assert theory.eigenvalue_scale(PAPER, "as_published") == PAPER.readout_variance
    ratio = theory.eigenvalue_scale(PAPER, "corrected") / PAPER.readout_variance
    assert ratio == 4 * 401**2
    with pytest.raises(ValueError, match="unknown closure"):
        theory.eigenvalue_scale(PAPER, "preprint")


def test_condition_for_a_third_phase():
    bound = np.sqrt(3) * SMALL.sextic_decay**1.5 / (144 * SMALL.width * SMALL.prime**2)
    for factor, finite in ((0.999, True), (1.001, False)):
        p = SMALL.model_copy(update={"readout_variance": factor * bound})
        assert np.isfinite(theory.closed_form(p, "corrected").noise_end) == finite
    assert np.isnan(theory.closed_form(PAPER, "corrected").noise_end)


def test_scaling_that_keeps_the_corrected_theory():
    beta = 4
    noise = np.array([0.6, 0.95]) * 1e-4
    scaled = SMALL.model_copy(
        update={
            "prime": SMALL.prime * 2,
            "width": SMALL.width * beta,
            "readout_variance": SMALL.readout_variance / beta**2,
        }
    )
    # gamma and the closed forms are unchanged up to sigma^2 -> sigma^2/beta.
    before = theory.closed_form_discrepancy(SMALL, noise, "corrected")
    after = theory.closed_form_discrepancy(scaled, noise / beta, "corrected")
    np.testing.assert_allclose(after, before, rtol=1e-9)


def test_three_phases_and_their_order():
    start, end = theory.boundaries(SMALL, "corrected")
    noise = np.array([1.02 * start, (start + end) / 2, 0.98 * end])
    mass = theory.branch(SMALL, noise, "corrected", "quadrature").side_mass
    assert (np.greater(mass, [[0.01], [0.99]]).sum(axis=0)).tolist() == [0, 1, 2]
    edge = theory.branch(SMALL, np.array([start, end]), "corrected", "quadrature").side_mass
    np.testing.assert_allclose(edge, [0.01, 0.99], rtol=1e-5)


def test_droplet_branches_are_metastable_up_to_their_spinodal():
    # From g = 1, u a^2 = sqrt(gamma), in the closed forms: sigma^2 = (2/sqrt 3)^(1/2) sigma_I^2
    # - lambda, with the lambda of a tenth of droplets at W^2 = 1/gamma.
    start = theory.closed_form(SMALL, "corrected").noise_start
    scale = theory.eigenvalue_scale(SMALL, "corrected") / SMALL.sextic_decay
    spinodal = np.sqrt(2 / np.sqrt(3)) * start - 0.1 * scale
    noise = spinodal * np.array([0.5, 0.999, 1.001])
    solution = theory.branch(SMALL, noise, "corrected", droplet_fraction=0.1)
    assert np.isfinite(solution.discrepancy).tolist() == [True, True, False]
    prior = theory.branch(SMALL, noise, "corrected", droplet_fraction=0.0)
    np.testing.assert_allclose(prior.discrepancy, -1, atol=1e-8)


def test_published_size_needs_less_than_one_droplet():
    solution = theory.branch(PAPER, np.array([0.2]), "corrected")
    budget = theory.droplet_budget(PAPER, solution)
    assert not budget.holds.any()
    # For P -> infinity lambda = sigma_I^2 - sigma^2 throughout the mixed phase.
    form = theory.closed_form(PAPER, "corrected")
    full = theory.eigenvalue_scale(PAPER, "corrected") * 3 / PAPER.sextic_decay
    need = PAPER.width * (form.noise_start - 0.2) / full
    assert budget.per_frequency[0] == pytest.approx(need, rel=1e-2)
    # In mean field one droplet would gain 690 P nats, 2 P u a^2 W^2, where fitting its frequency
    # perfectly gains P/sigma^2 = 5 P.
    gain = 2 * PAPER.prime * solution.interaction[0] * solution.saddles.side[0] ** 2
    assert gain > 100 * PAPER.prime / 0.2


def test_small_size_has_droplets_to_spare():
    start, _ = theory.boundaries(SMALL, "corrected")
    solution = theory.branch(SMALL, np.array([start]), "corrected", "quadrature")
    budget = theory.droplet_budget(SMALL, solution)
    assert budget.per_frequency[0] == pytest.approx(10, rel=1e-3)
    assert budget.holds.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prime": 15}, "divisible by 3"),
        ({"prime": 2}, "odd prime"),
        ({"prime": 1}, "odd prime"),
        ({"sextic_decay": 0.0}, "cannot be normalised"),
        ({"sextic_decay": -1.0}, "cannot be normalised"),
        ({"width": 0}, "width"),
        ({"noise": 0.0}, "noise"),
        ({"readout_variance": -1.0}, "readout_variance"),
        ({"noise": float("nan")}, "noise"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        ModularAddition(**{**SMALL.model_dump(), **change})


def test_composite_modulus_needs_the_flag():
    composite = SMALL.model_dump() | {"prime": 15}
    with pytest.raises(ValueError, match=r"not prime .divisible by 3.*set allow_composite"):
        ModularAddition(**composite)
    ModularAddition(**composite | {"allow_composite": True})


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match="noise must be positive"):
        theory.branch(PAPER, np.array([0.2, -0.1]), "corrected")


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
