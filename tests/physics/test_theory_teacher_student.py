"""Mean-field theory of the teacher-student model against independent brute force."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from grokphase.errors import GrokphaseError
from grokphase.parameters import TeacherStudent
from grokphase.prediction import predict, transition_table
from grokphase.specifications.theory import Theory, TheorySpecification
from grokphase.theory import closures, limit, one_neuron, phases
from grokphase.theory import teacher_student as theory
from grokphase.theory.phases import TransitionResult
from scipy.special import erf, eval_hermitenorm

PAPER = TeacherStudent(
    input_dim=150,
    width=700,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=8 / 700,
    noise=0.18,
    cubic_strength=-0.3,
)
ALL_PHASES = TeacherStudent(
    input_dim=50,
    width=100,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=1e-4,
    noise=0.08,
    cubic_strength=-1.0,
)


def scaled(beta: int) -> TeacherStudent:
    """The paper's parameters at a perfect square beta = alpha; the noise stays."""
    root = math.isqrt(beta)
    return PAPER.model_copy(
        update={
            "input_dim": 150 * root,
            "width": 700 * beta,
            "train_size": 3000 * beta,
            "readout_variance": 8 / 700 / root,
        }
    )


def published_action(q, b, c, p, noise):
    """The two-mode action as printed, written independently of the package."""
    u = p.train_size**2 * p.readout_variance / (noise**2 * p.input_dim * p.width)
    big_d = 1 + 2 * (p.weight_variance + q**2)
    bracket = b - 2 * c * q**2 / big_d
    interaction = 2 * u / np.pi * q**2 / big_d * bracket**2
    return p.input_dim * (q**2 / (2 * p.weight_variance) - interaction)


def brute_force_residual(b, c, p, noise, epsilon, q):
    """Residual of the two published equations on a dense grid; b and c of one shape [...]."""
    exponent = -published_action(q, b[..., None], c[..., None], p, noise)
    weights = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    big_d = 1 + 2 * (p.weight_variance + q**2)
    m1 = 2 / np.sqrt(np.pi) * q / np.sqrt(big_d)
    m3 = -4 / np.sqrt(6 * np.pi) * q**3 / big_d**1.5
    gain = p.train_size * p.readout_variance / noise
    t3 = np.sqrt(6) * c
    q11, q13, q33 = weights @ m1**2, weights @ (m1 * m3), weights @ m3**2
    first = 1 - b - gain * (q11 * b + q13 * t3)
    second = np.sqrt(6) * epsilon - t3 - gain * (q13 * b + q33 * t3)
    return first, second


# --- Closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.1, 0.7, -1.3])
def test_amplitudes_match_two_dimensional_quadrature(overlap):
    variance, modes = 0.5, 4
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    z, rest = nodes[:, None], nodes[None, :]
    value = erf(overlap * z + np.sqrt(variance) * rest)
    joint = weights[:, None] * weights
    expected = [
        np.sum(joint * value * eval_hermitenorm(k, z)) / math.sqrt(math.factorial(k))
        for k in (1, 3, 5, 7)
    ]
    computed = one_neuron.hermite_amplitudes(overlap, variance, modes)
    np.testing.assert_allclose(computed, expected, rtol=1e-8, atol=1e-10)


def test_amplitudes_match_monte_carlo_in_full_dimension():
    rng = np.random.default_rng(1)
    d, q, variance = 30, 0.8, 0.5
    teacher = np.zeros(d)
    teacher[0] = 1.0
    w = rng.standard_normal(d)
    w[0] = 0.0
    w *= np.sqrt(variance) / np.linalg.norm(w)
    w[0] = q
    x = rng.standard_normal((200_000, d))
    values = erf(x @ w)
    z = x @ teacher
    for k, amplitude in zip((1, 3), one_neuron.hermite_amplitudes(q, variance, 2), strict=True):
        samples = values * eval_hermitenorm(k, z) / math.sqrt(math.factorial(k))
        assert abs(samples.mean() - amplitude) < 5 * samples.std() / np.sqrt(samples.size)


def test_action_is_the_published_one_with_two_modes():
    q = np.linspace(-2, 2, 41)
    b, c = 0.37, -0.21
    computed = one_neuron.action(q, [b, math.sqrt(6) * c], PAPER, 0.15)
    np.testing.assert_allclose(computed, published_action(q, b, c, PAPER, 0.15), rtol=1e-12)


@pytest.mark.parametrize("t", [[0.3, -0.7], [0.4, 0.5, -0.6, 0.2]])
def test_action_derivatives_match_finite_differences(t):
    q, h = np.linspace(-1.5, 1.5, 31), 1e-4
    left, middle, right = (one_neuron.action(q + s, t, PAPER, 0.12) for s in (-h, 0.0, h))
    first, second = one_neuron.action_derivatives(q, t, PAPER, 0.12)
    scale = np.abs(second).max()
    np.testing.assert_allclose(first, (right - left) / (2 * h), atol=1e-5 * scale)
    np.testing.assert_allclose(second, (right - 2 * middle + left) / h**2, atol=1e-4 * scale)


@pytest.mark.parametrize("modes", [2, 3, 4])
def test_stationary_overlaps_find_every_sign_change_of_the_slope(modes):
    rng = np.random.default_rng(modes)
    q = np.linspace(1e-4, 12.0, 200_001)
    seen = set()
    for _ in range(40):
        t = rng.standard_normal(modes) * 0.8
        slope = one_neuron.action_derivatives(q, t, PAPER, 0.08)[0]
        change = np.flatnonzero(np.sign(slope[1:]) != np.sign(slope[:-1]))
        found = one_neuron.stationary_overlaps(t, PAPER, 0.08)
        found = found[np.isfinite(found) & (found > q[0]) & (found < q[-1])]
        assert found.size == change.size
        np.testing.assert_allclose(found, 0.5 * (q[change] + q[change + 1]), atol=1e-4)
        seen.add(found.size)
    assert len(seen) >= 2


def test_stationary_overlaps_without_cubic_mode():
    assert np.isnan(one_neuron.stationary_overlaps([0.0, 0.0], PAPER, 0.18)).all()
    strong = one_neuron.stationary_overlaps([1.0, 0.0], PAPER, 0.05)
    strong = strong[np.isfinite(strong)]
    assert strong.size == 1
    slope = one_neuron.action_derivatives(strong, np.array([1.0, 0.0]), PAPER, 0.05)[0]
    assert abs(slope[0]) < 1e-8


# --- Exact quadrature closure ---------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "epsilon"), [(0.18, -0.3), (0.1, -0.3), (0.12, 0.4)])
def test_quadrature_solution_satisfies_the_published_equations(noise, epsilon):
    solution = theory.select(theory.solve(PAPER, noise, epsilon))
    b, c = 1 - solution.linear_overlap, epsilon - solution.cubic_overlap
    q = np.linspace(-5, 5, 40_001)
    first, second = brute_force_residual(b, c, PAPER, noise, epsilon, q)
    assert abs(first) < 1e-8
    assert abs(second) < 1e-8


def test_quadrature_reproduces_the_known_values_at_the_paper_parameters():
    solution = theory.select(theory.solve(PAPER))
    values = phases.observables(solution)
    assert values.linear_overlap == pytest.approx(0.7203, abs=5e-5)
    assert values.cubic_overlap == pytest.approx(-0.0098, abs=5e-5)
    assert values.droplet_fraction == pytest.approx(0.0064, abs=5e-5)
    assert values.mean_square_overlap == pytest.approx(6.44, abs=5e-3)


@pytest.mark.parametrize(
    ("parameters", "noise", "epsilon"),
    [
        (PAPER, 0.18, -0.3),
        (PAPER, 0.10, -0.3),
        (ALL_PHASES, 0.08, -1.0),
        (ALL_PHASES, 0.2, -1.0),
    ],
)
def test_scan_of_the_plane_finds_exactly_one_root(parameters, noise, epsilon):
    # Every root has |t|^2 <= y.t, so t lies in the ball whose diameter runs from 0 to y.
    radius = math.sqrt(1 + 6 * epsilon**2) / 2
    low = np.array([0.5 - radius, epsilon / 2 - radius / math.sqrt(6)])
    high = np.array([0.5 + radius, epsilon / 2 + radius / math.sqrt(6)])
    q = 0.01 * (np.arange(500) + 0.5)

    # Every root turns the residual once around the boundary in the same sense, because the
    # Jacobian is negative definite: one turn, one root.
    u, one = np.linspace(0, 1, 1501)[:-1], np.ones(1500)
    square = np.concatenate([[u, 0 * u], [one, u], [1 - u, one], [0 * u, 1 - u]], axis=1)
    b, c = low[:, None] + (high - low)[:, None] * square
    first, second = brute_force_residual(b, c, parameters, noise, epsilon, q)
    around = first + 1j * second
    turns = np.angle(np.roll(around, -1) / around)
    assert np.abs(turns).max() < 2.5
    assert round(turns.sum() / (2 * np.pi)) == 1

    # The same by scanning: for every c the first equation has one root b(c), and along that curve
    # the second equation has one root.
    def linear_roots(c):
        b = np.linspace(low[0], high[0], 200)
        grid = np.meshgrid(b, c)
        values = brute_force_residual(*grid, parameters, noise, epsilon, q)[0]
        assert ((np.sign(values[:, 1:]) != np.sign(values[:, :-1])).sum(axis=1) == 1).all()
        k = np.argmax(values < 0, axis=1)
        left, right = b[k - 1], b[k]
        for _ in range(45):
            middle = (left + right) / 2
            over = brute_force_residual(middle, c, parameters, noise, epsilon, q)[0] < 0
            left, right = np.where(over, left, middle), np.where(over, middle, right)
        return (left + right) / 2

    c = np.linspace(low[1], high[1], 60)
    for _ in range(8):
        b = linear_roots(c)
        values = brute_force_residual(b, c, parameters, noise, epsilon, q)[1]
        change = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
        assert change.size == 1
        k = change[0]
        if c[k + 1] - c[k] < 1e-9:
            break
        c = np.linspace(c[k], c[k + 1], 25)
    solution = theory.select(theory.solve(parameters, noise, epsilon))
    assert b[k] == pytest.approx(1 - solution.linear_overlap, abs=1e-7)
    assert c[k] == pytest.approx(epsilon - solution.cubic_overlap, abs=1e-7)


def test_gamma_is_strictly_concave_and_the_solution_is_its_maximum():
    noise, epsilon = 0.12, -0.3
    solution = theory.select(theory.solve(PAPER, noise, epsilon, modes=3))
    q = np.linspace(-5, 5, 20_001)
    y = one_neuron.teacher_coefficients(epsilon, 3)

    def gamma(t):
        exponent = -one_neuron.action(q, t, PAPER, noise)
        top = exponent.max()
        log_z = top + np.log(np.sum(np.exp(exponent - top)) * (q[1] - q[0]))
        return PAPER.train_size / noise * (y @ t - t @ t / 2) - PAPER.width * log_z

    best = gamma(solution.discrepancy)
    assert solution.free_energy == pytest.approx(best, rel=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, right = rng.standard_normal((2, 3))
        assert gamma((left + right) / 2) > (gamma(left) + gamma(right)) / 2
        assert gamma(left) < best


def test_stability_eigenvalue_is_that_of_the_finite_difference_jacobian():
    noise, epsilon, h = 0.12, -0.3, 1e-5
    solution = theory.select(theory.solve(PAPER, noise, epsilon))
    root = np.array([1 - solution.linear_overlap, epsilon - solution.cubic_overlap])
    q = np.linspace(-5, 5, 20_001)
    jacobian = np.empty((2, 2))
    for k, shift in enumerate(h * np.eye(2)):
        # Columns are derivatives with respect to (b, sqrt(6) c).
        scale = (1.0, math.sqrt(6))[k]
        right = np.array(brute_force_residual(*(root + shift), PAPER, noise, epsilon, q))
        left = np.array(brute_force_residual(*(root - shift), PAPER, noise, epsilon, q))
        jacobian[:, k] = (right - left) / (2 * h * scale)
    np.testing.assert_allclose(jacobian, jacobian.T, rtol=1e-4)
    assert solution.stability_eigenvalue == pytest.approx(
        np.linalg.eigvalsh((jacobian + jacobian.T) / 2)[-1], rel=1e-5
    )
    assert solution.stability_eigenvalue <= -1
    assert solution.stable


def test_solutions_converge_everywhere_on_a_grid_and_do_not_depend_on_the_batch():
    noise = np.linspace(0.06, 0.4, 25)[:, None]
    epsilon = np.linspace(-0.6, 0.6, 13)
    grid = theory.solve(PAPER, noise, epsilon)
    assert grid.discrepancy.shape == (1, 25, 13, 2)
    assert grid.converged.all()
    assert grid.stable.all()
    single = theory.solve(PAPER, noise[7, 0], epsilon[2])
    np.testing.assert_allclose(grid.discrepancy[0, 7, 2], single.discrepancy[0], atol=1e-9)


def test_extreme_interaction_is_solved():
    strong = TeacherStudent(
        input_dim=20,
        width=20,
        train_size=3000,
        weight_variance=0.5,
        readout_variance=1e-4,
        noise=0.005,
        cubic_strength=-1.0,
    )
    solution = theory.select(theory.solve(strong))
    assert solution.converged
    b, c = 1 - solution.linear_overlap, -1.0 - solution.cubic_overlap
    residual = brute_force_residual(b, c, strong, 0.005, -1.0, 1e-4 * (np.arange(600_000) + 0.5))
    np.testing.assert_allclose(residual, 0, atol=1e-7)


def test_non_convergence_is_reported_and_carries_no_number():
    solution = theory.solve(PAPER, 0.1, -0.3, max_steps=1)
    assert solution.result[0] == theory.Result.MAX_STEPS_REACHED
    assert np.isnan(solution.linear_overlap[0])
    assert np.isnan(solution.free_energy[0])
    assert not solution.stable[0]
    chosen = theory.select(solution)
    assert chosen.result == theory.Result.MAX_STEPS_REACHED
    values = phases.observables(chosen)
    assert np.isnan(values.droplet_fraction)
    assert np.isnan(values.landscape.side_mass)
    assert values.phase == phases.Phase.UNDEFINED


def test_more_modes_change_little_before_the_transition():
    two = theory.select(theory.solve(PAPER, 0.2, -0.3))
    four = theory.select(theory.solve(PAPER, 0.2, -0.3, modes=4))
    assert two.linear_overlap == pytest.approx(four.linear_overlap, abs=1e-4)
    assert not np.isclose(two.linear_overlap, four.linear_overlap, rtol=0, atol=1e-7)


def test_sign_of_the_cubic_strength_decides_how_much_is_learned():
    plain = theory.select(theory.solve(PAPER, 0.15, 0.0))
    negative = theory.select(theory.solve(PAPER, 0.15, -0.3))
    positive = theory.select(theory.solve(PAPER, 0.15, 0.3))
    assert negative.cubic_overlap < plain.cubic_overlap < positive.cubic_overlap
    assert abs(negative.cubic_overlap) > abs(positive.cubic_overlap)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": 0.0}, "noise must be positive"),
        ({"noise": [0.1, np.nan]}, "noise must be positive"),
        ({"cubic_strength": np.inf}, "cubic_strength must be finite"),
        ({"noise": [0.1, 0.2], "cubic_strength": [0.1, 0.2, 0.3]}, "do not broadcast"),
        ({"noise": []}, "at least one point"),
        ({"modes": 1}, "modes must be at least 2"),
        ({"closure": "exact"}, "closure must be one of"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_solve_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.solve(PAPER, **arguments)


# --- Gaussian mixture closure ---------------------------------------------------------------------


def mixture_residual(t, parameters, noise, epsilon, wells):
    """Two-mode mixture residual from a dense scan for minima and dense Gaussian integrals."""
    q = np.linspace(-8, 8, 160_001)
    s = one_neuron.action(q, t, parameters, noise)
    low = np.flatnonzero((s[1:-1] < s[:-2]) & (s[1:-1] <= s[2:])) + 1
    if wells == theory.Wells.CENTRAL:
        low = low[np.abs(q[low]) < 1e-3]
    if wells == theory.Wells.SIDE:
        low = low[np.abs(q[low]) > 1e-3]
    h = 1e-4
    matrix, total = np.zeros((2, 2)), 0.0
    for start in q[low]:
        center = start
        for _ in range(30):
            first, second = one_neuron.action_derivatives(center, t, parameters, noise)
            center = center - first / second
        middle, left, right = (
            one_neuron.action(center + k * h, t, parameters, noise) for k in (0, -1, 1)
        )
        curvature = (right - 2 * middle + left) / h**2
        weight = np.exp(-(middle - s[low].min())) / np.sqrt(curvature)
        points = center + np.linspace(-9, 9, 4001) / np.sqrt(curvature)
        gauss = np.exp(-curvature * (points - center) ** 2 / 2)
        gauss /= gauss.sum()
        m = one_neuron.hermite_amplitudes(points, parameters.weight_variance, 2)
        matrix += weight * np.einsum("p,pi,pj->ij", gauss, m, m)
        total += weight
    gain = parameters.train_size * parameters.readout_variance / noise
    return one_neuron.teacher_coefficients(epsilon, 2) - t - gain * (matrix / total) @ t


def test_mixture_branches_satisfy_their_equations():
    branches = theory.solve(ALL_PHASES, 0.1, -1.0, closure="gaussian_mixture")
    assert set(branches.wells[branches.converged]) == set(theory.Wells)
    for k in np.flatnonzero(branches.converged):
        residual = mixture_residual(
            branches.discrepancy[k], ALL_PHASES, 0.1, -1.0, branches.wells[k]
        )
        np.testing.assert_allclose(residual, 0.0, atol=2e-5)


def test_mixture_restricted_wells_lie_above_in_free_energy():
    noise = np.geomspace(0.06, 0.12, 4)
    branches = theory.solve(ALL_PHASES, noise, -1.0, closure="gaussian_mixture")
    full = np.where(branches.wells == theory.Wells.ALL, branches.free_energy, np.nan)
    rest = np.where(branches.wells != theory.Wells.ALL, branches.free_energy, np.nan)
    assert (np.nanmin(rest, axis=0) > np.nanmin(full, axis=0)).all()
    chosen = theory.select(branches)
    assert (chosen.wells == theory.Wells.ALL).all()
    np.testing.assert_array_equal(chosen.free_energy, np.nanmin(full, axis=0))


def test_mixture_approaches_quadrature_as_the_dimension_grows():
    large = TeacherStudent(
        input_dim=1500,
        width=70_000,
        train_size=300_000,
        weight_variance=0.5,
        readout_variance=8 / 7000,
        noise=0.25,
        cubic_strength=-0.3,
    )
    error = []
    for parameters in (PAPER, large):
        exact = theory.select(theory.solve(parameters, 0.25, -0.3))
        mixture = theory.select(theory.solve(parameters, 0.25, -0.3, closure="gaussian_mixture"))
        error.append(abs(exact.linear_overlap - mixture.linear_overlap))
    assert error[1] < 0.2 * error[0]
    assert error[1] < 1e-3


def test_mixture_with_several_unrestricted_branches_returns_them_all():
    noise, epsilon = 0.09, -0.2
    branches = theory.solve(PAPER, noise, epsilon, closure="gaussian_mixture")
    unrestricted = branches.converged & (branches.wells == theory.Wells.ALL)
    found = branches.discrepancy[unrestricted]
    assert len(found) == 2
    # One has lost its stability: the two are separated by a fold.
    assert sorted(branches.stable[unrestricted]) == [False, True]
    # Brute force: the same two from independent evaluations of the equations.
    for t in found:
        np.testing.assert_allclose(
            mixture_residual(t, PAPER, noise, epsilon, theory.Wells.ALL), 0.0, atol=1e-3
        )
    starts = np.random.default_rng(0).uniform([0.0, -0.75], [1.0, 0.25], (60, 2))
    problem = closures.Problem(
        PAPER, np.full(60, noise), one_neuron.teacher_coefficients(np.full(60, epsilon))
    )
    kind = np.full(60, theory.Wells.ALL)
    hits = closures._solve_mixture(problem, starts, kind, 1e-10, 200)
    for t in hits.t[hits.result == theory.Result.CONVERGED]:
        assert np.linalg.norm(found - t, axis=1).min() < 1e-5


def test_mixture_without_any_solution_says_so():
    branches = theory.solve(PAPER, [0.2, 0.3], -0.3, closure="gaussian_mixture", max_steps=1)
    assert (branches.result[0] == theory.Result.MAX_STEPS_REACHED).all()
    assert np.isnan(branches.free_energy).all()


def test_how_starts_are_shared_out_changes_no_solution(monkeypatch):
    noise, epsilon = np.linspace(0.06, 0.3, 9)[:, None], np.linspace(-0.5, -0.1, 5)
    whole = theory.solve(PAPER, noise, epsilon, closure="gaussian_mixture")
    monkeypatch.setattr(closures, "_BLOCK_POINTS", 7)
    monkeypatch.setattr(closures, "_ROUND_STEPS", 3)
    parts = theory.solve(PAPER, noise, epsilon, closure="gaussian_mixture")
    np.testing.assert_array_equal(parts.result, whole.result)
    np.testing.assert_allclose(parts.discrepancy, whole.discrepancy, rtol=1e-12)


def test_mixture_gap_is_reported_where_the_side_wells_are_about_to_appear():
    branches = theory.solve(PAPER, 0.18, -0.3, closure="gaussian_mixture")
    assert branches.result[0] == theory.Result.MAX_STEPS_REACHED
    assert branches.wells[0] == theory.Wells.ALL
    assert np.isnan(branches.linear_overlap[0])
    chosen = theory.select(branches)
    assert chosen.wells == theory.Wells.CENTRAL


def test_continuation_finds_branches_whatever_the_order_of_the_noises():
    noise = np.linspace(0.087, 0.091, 5)
    ascending = theory.solve(PAPER, noise, -0.2, closure="gaussian_mixture")
    descending = theory.solve(PAPER, noise[::-1], -0.2, closure="gaussian_mixture")
    for solutions in (ascending, descending):
        assert solutions.result.shape[1] == 5
    counts = ascending.converged.sum(axis=0)
    np.testing.assert_array_equal(counts, descending.converged.sum(axis=0)[::-1])
    assert counts.max() > counts.min()


@pytest.mark.parametrize("closure", ["quadrature", "gaussian_mixture"])
@pytest.mark.parametrize(
    ("parameters", "noises", "strengths"),
    [
        (PAPER, [0.06, 0.09, 0.12, 0.16, 0.25, 0.4], [-0.5, -0.3, -0.2, 0.0, 0.4]),
        (ALL_PHASES, [0.08, 0.1, 0.16, 0.5], [-1.3, -1.0]),
    ],
)
def test_grid_agrees_with_single_points(closure, parameters, noises, strengths):
    grid = theory.solve(parameters, np.array(noises)[:, None], strengths, closure=closure)
    phase = phases.observables(theory.select(grid)).phase
    expected = {phases.Phase.GFL, phases.Phase.GMFL_I, phases.Phase.GMFL_II}
    if closure == "quadrature" and parameters is PAPER:
        expected.remove(phases.Phase.GMFL_II)
    assert set(phase.ravel()) == expected
    found = grid.converged
    assert closure == "quadrature" or found.sum(axis=0).max() >= 3
    for i, j in np.ndindex(phase.shape):
        single = theory.solve(parameters, noises[i], strengths[j], closure=closure)
        matched = set()
        for k in np.flatnonzero(single.converged):
            same = np.flatnonzero(found[:, i, j] & (grid.wells[:, i, j] == single.wells[k]))
            t = single.discrepancy[k]
            distance = np.linalg.norm(grid.discrepancy[same, i, j] - t, axis=1)
            nearest = same[np.argmin(distance)]
            assert distance.min() < 1e-6 * np.linalg.norm(t)
            matched.add(nearest)
            for name in ("free_energy", "log_partition", "stability_eigenvalue"):
                value = getattr(grid, name)[nearest, i, j]
                assert value == pytest.approx(getattr(single, name)[k], rel=1e-6)
        # Continuation along the grid may find more; nothing but solutions.
        for k in set(np.flatnonzero(found[:, i, j])) - matched:
            residual = mixture_residual(
                grid.discrepancy[k, i, j], parameters, noises[i], strengths[j], grid.wells[k, i, j]
            )
            np.testing.assert_allclose(residual, 0.0, atol=1e-3)


def test_mixture_eigenvalue_is_that_of_the_finite_difference_jacobian():
    """The derivative follows place, width and weight of the minima; three modes, three kinds."""
    for modes in (2, 3):
        branches = theory.solve(ALL_PHASES, 0.1, -1.0, modes=modes, closure="gaussian_mixture")
        y = one_neuron.teacher_coefficients(np.full(2 * modes, -1.0), modes)
        problem = closures.Problem(ALL_PHASES, np.full(2 * modes, 0.1), y)
        h = 1e-5
        shifts = h * np.concatenate([np.eye(modes), -np.eye(modes)])
        for k in np.flatnonzero(branches.converged):
            wells = np.full(2 * modes, branches.wells[k])
            equations = closures._mixture_equations(
                branches.discrepancy[k] + shifts, problem, wells
            )
            jacobian = (equations.residual[:modes] - equations.residual[modes:]).T / (2 * h)
            assert branches.stability_eigenvalue[k] == pytest.approx(
                np.linalg.eigvals(jacobian).real.max(), rel=1e-4
            )


# --- Density --------------------------------------------------------------------------------------


@pytest.mark.parametrize("closure", ["quadrature", "gaussian_mixture"])
def test_density_is_normalised(closure):
    solutions = theory.solve(PAPER, [0.1, 0.18, 0.3], -0.3, closure=closure)
    q = np.linspace(-4, 4, 16_001)
    total = theory.density(solutions, q).sum(axis=-1) * (q[1] - q[0])
    np.testing.assert_allclose(total[solutions.converged], 1.0, rtol=1e-9)


def test_bin_probability_integrates_the_density():
    solution = theory.select(theory.solve(PAPER, [0.1, 0.2], -0.3))
    edges = np.array([-np.inf, -1.0, -0.31, 0.0, 0.02, 0.9, np.inf])
    probability = theory.bin_probability(solution, edges)
    assert probability.shape == (2, 6)
    np.testing.assert_allclose(probability.sum(axis=-1), 1.0, rtol=1e-11)
    fine = np.linspace(0.02, 0.9, 200_001)
    middle = 0.5 * (fine[1:] + fine[:-1])
    expected = theory.density(solution, middle).sum(axis=-1) * (fine[1] - fine[0])
    np.testing.assert_allclose(probability[:, 4], expected, rtol=1e-8)
    # A wide bin is not the density at its centre.
    assert abs(probability[0, 4] - 0.88 * theory.density(solution, [0.46])[0, 0]) > 0.01
    np.testing.assert_allclose(probability[:, :3].sum(axis=-1), 0.5, rtol=1e-10)


def test_tail_mass_and_mean_square_match_brute_force():
    solution = theory.select(theory.solve(PAPER, [0.1, 0.18], -0.3))
    q = np.linspace(0, 4, 800_001)
    middle = 0.5 * (q[1:] + q[:-1])
    weight = 2 * theory.density(solution, middle) * (q[1] - q[0])
    tail = weight[:, middle > 0.5].sum(axis=-1)
    np.testing.assert_allclose(theory.tail_mass(solution, 0.5), tail, rtol=1e-6)
    np.testing.assert_allclose(theory.mean_square_overlap(solution), weight @ middle**2, rtol=1e-8)
    np.testing.assert_allclose(theory.tail_mass(solution, 0.0), 1.0, rtol=1e-11)


def test_density_functions_reject_bad_arguments():
    solution = theory.select(theory.solve(PAPER))
    with pytest.raises(ValueError, match="ascending"):
        theory.bin_probability(solution, [0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="one-dimensional"):
        theory.bin_probability(solution, [0.0])
    with pytest.raises(ValueError, match="one-dimensional"):
        theory.density(solution, 0.3)
    with pytest.raises(ValueError, match="negative"):
        theory.tail_mass(solution, -0.1)


@pytest.mark.parametrize(
    ("changes", "cubic_strength"),
    [
        ({}, -0.3),
        ({"input_dim": 10}, -3.0),
        ({"input_dim": 10, "weight_variance": 5.0}, -3.0),
        ({"width": 50}, -3.0),
        ({"input_dim": 2, "width": 7, "train_size": 29770}, -0.3),
    ],
)
def test_probabilities_add_up_where_wells_are_narrow(changes, cubic_strength):
    """The partition function comes from a grid that is refined until it no longer changes."""
    of = PAPER.model_copy(update=changes)
    noise = np.array([0.005, 0.05, 0.3])
    solution = theory.select(theory.solve(of, noise, np.full(3, cubic_strength)))
    assert solution.converged.all()
    parts = theory.tail_mass(solution, 0.7), theory.bin_probability(solution, [-0.7, 0.7])[:, 0]
    np.testing.assert_allclose(sum(parts), 1, rtol=1e-8)


# --- Phases and transitions -----------------------------------------------------------------------


@pytest.mark.parametrize("width", [200, 700])
def test_the_neurons_of_a_linear_teacher_are_no_droplets(width):
    """At low noise the central peak splits into two that overlap; that is no transition."""
    of = PAPER.model_copy(update={"width": width, "readout_variance": 8 / width})
    noise = np.array([0.3, 0.02, 0.005])
    found = phases.observables(theory.select(theory.solve(of, noise, np.zeros(3))))
    assert found.landscape.central_minimum.tolist() == [True, False, False]
    assert found.landscape.side_mass.tolist() == [0, 0, 0]
    assert (found.phase == phases.Phase.GFL).all()
    assert (found.droplet_fraction < 1e-5).all()
    found = phases.transition_noise(of, 0.0, noise_range=(0.005, 1.0), scan_points=20)
    assert found.result == TransitionResult.NOT_REACHED


def test_the_parted_peaks_of_a_narrow_network_stay_its_wells():
    """With a linear teacher they are the deepest minima; others far above them change nothing."""
    of = PAPER.model_copy(update={"width": 50})
    noise = np.array([0.3, 0.05, 0.02, 0.01, 0.005, 0.002])
    found = phases.observables(theory.select(theory.solve(of, noise, np.zeros(6))))
    assert found.phase.tolist() == [phases.Phase.GFL, *5 * [phases.Phase.GMFL_II]]
    assert found.landscape.barrier[1:].tolist() == 5 * [0]
    assert (found.landscape.side_minimum[1:] < 0.35).all()


def test_a_high_maximum_at_zero_parts_the_wells():
    """An action with a deep minimum on either side of zero, and nothing in between."""
    solution = theory.select(theory.solve(PAPER, 0.1, 0.0))
    t = np.array([0.3, 0.0])
    partition = theory.log_partition(t[None], PAPER, np.array([0.1]))[0]
    changed = replace(solution, discrepancy=t, log_partition=partition)
    saddles = phases.landscape(changed)
    assert saddles.barrier == 0
    assert saddles.action_difference < -phases.LEAST_DEPTH
    assert saddles.side_mass == pytest.approx(1)


def test_landscape_matches_a_dense_scan():
    solution = theory.select(theory.solve(PAPER, 0.1, -0.3))
    saddles = phases.landscape(solution)
    q = np.linspace(0, 3, 300_001)
    s = one_neuron.action(q, solution.discrepancy, PAPER, 0.1)
    top = q[np.flatnonzero((s[1:-1] > s[:-2]) & (s[1:-1] > s[2:])) + 1]
    bottom = np.flatnonzero((s[1:-1] < s[:-2]) & (s[1:-1] < s[2:])) + 1
    assert top.size == bottom.size == 1
    assert saddles.barrier == pytest.approx(top[0], abs=2e-5)
    assert saddles.side_minimum == pytest.approx(q[bottom[0]], abs=2e-5)
    assert saddles.action_difference == pytest.approx(s[bottom[0]], abs=1e-6)
    weight = np.exp(-s)
    assert saddles.side_mass == pytest.approx(weight[q > top[0]].sum() / weight.sum(), rel=1e-3)
    assert saddles.central_minimum


def test_landscape_without_side_minimum():
    saddles = phases.landscape(theory.select(theory.solve(PAPER, 0.3, -0.1)))
    assert np.isnan(saddles.side_minimum)
    assert np.isnan(saddles.action_difference)
    assert saddles.side_mass == 0.0


def test_phases_follow_the_side_mass():
    codes = phases.classify([0.0, 0.0099, 0.01, 0.5, 0.99, 0.9901, np.nan])
    labels = [phases.Phase(code).label for code in codes]
    assert labels == ["GFL", "GFL", "GMFL-I", "GMFL-I", "GMFL-I", "GMFL-II", "undefined"]
    assert phases.classify(0.02, tau=0.05) == phases.Phase.GFL
    with pytest.raises(ValueError, match="tau"):
        phases.classify(0.5, tau=0.5)


def test_all_three_phases_occur():
    solutions = theory.select(theory.solve(ALL_PHASES, [0.08, 0.16, 0.5], -1.0))
    assert list(phases.observables(solutions).phase) == [
        phases.Phase.GMFL_II,
        phases.Phase.GMFL_I,
        phases.Phase.GFL,
    ]


def test_continuous_transition_is_where_the_side_mass_is_tau():
    found = phases.transition_noise(PAPER, [-0.4, -0.5], noise_range=(0.1, 0.5), tau=0.01)
    assert (found.result == phases.TransitionResult.CONTINUOUS).all()
    at = theory.select(theory.solve(PAPER, found.noise, [-0.4, -0.5]))
    np.testing.assert_allclose(phases.landscape(at).side_mass, 0.01, rtol=1e-5)
    shifted = theory.select(theory.solve(PAPER, found.noise * (1 + 1e-3), [-0.4, -0.5]))
    assert (phases.landscape(shifted).side_mass < 0.01).all()


def test_transition_by_fixed_threshold():
    found = phases.transition_noise(PAPER, -0.3, threshold=0.5)
    at = theory.select(theory.solve(PAPER, found.noise, -0.3))
    assert theory.tail_mass(at, 0.5) == pytest.approx(0.01, rel=1e-6)


def test_jump_of_the_side_mass_is_reported_as_such():
    found = phases.transition_noise(PAPER, -0.3)
    assert found.result == phases.TransitionResult.DISCONTINUOUS
    assert found.mass_above == 0.0
    assert found.mass_below > 0.01
    for factor, exists in ((1 + 1e-5, False), (1 - 1e-5, True)):
        saddles = phases.landscape(theory.select(theory.solve(PAPER, found.noise * factor, -0.3)))
        assert np.isfinite(saddles.side_minimum) == exists


def test_end_of_the_mixed_phase():
    found = phases.transition_noise(ALL_PHASES, -1.0, end=True, noise_range=(0.07, 0.5))
    assert found.result == phases.TransitionResult.CONTINUOUS
    at = theory.select(theory.solve(ALL_PHASES, found.noise, -1.0))
    assert phases.landscape(at).side_mass == pytest.approx(0.99, rel=1e-6)
    start = phases.transition_noise(ALL_PHASES, -1.0, noise_range=(0.07, 0.5))
    assert start.noise > found.noise


def test_absent_transitions_give_a_reason():
    found = phases.transition_noise(PAPER, [0.0, -0.4], noise_range=(0.15, 0.3))
    assert found.result[0] == phases.TransitionResult.NOT_REACHED
    assert np.isnan(found.noise[0])
    already = phases.transition_noise(PAPER, -0.4, noise_range=(0.1, 0.15))
    assert already.result == phases.TransitionResult.ALREADY_REACHED
    assert np.isnan(already.noise)
    for arguments, message in (
        ({"noise_range": (0.3, 0.1)}, "noise_range"),
        ({"tau": 0.7}, "tau"),
        ({"scan_points": 1}, "scan_points"),
        ({"threshold": -1.0}, "negative"),
    ):
        with pytest.raises(ValueError, match=message):
            phases.transition_noise(PAPER, -0.3, **arguments)


# --- Infinite-size limit --------------------------------------------------------------------------


def test_limit_transition_has_the_published_values():
    found = limit.limit_transition(PAPER)
    assert found.result == limit.LimitResult.FOUND
    assert found.effective_interaction == pytest.approx(30.67, abs=0.02)
    assert found.noise == pytest.approx(0.1787, abs=1e-4)
    # The side minimum is degenerate with q = 0 and stationary.
    t = np.array([found.linear_discrepancy, math.sqrt(6) * -0.3])
    assert one_neuron.action(found.side_minimum, t, PAPER, found.noise) == pytest.approx(
        0, abs=1e-6
    )
    slope = one_neuron.action_derivatives(found.side_minimum, t, PAPER, found.noise)[0]
    assert slope == pytest.approx(0, abs=1e-6)


def independent_limit_interaction(prefactor):
    """u at the transition from nested bisection on dense scans, Q_11 carrying the prefactor."""
    p, epsilon = PAPER, -0.3
    q = np.linspace(0.2, 2, 4001)
    origin = 1 + 2 * p.weight_variance

    def side_action(noise):
        u = p.train_size**2 * p.readout_variance / (noise**2 * p.input_dim * p.width)
        low, high = 0.0, 1.0
        for _ in range(60):
            b = (low + high) / 2
            stiffness = p.input_dim * (1 / p.weight_variance - 4 * u / np.pi * b**2 / origin)
            gain = p.train_size / noise * p.readout_variance * prefactor / origin
            too_large = stiffness <= 0 or b * (1 + gain / stiffness) > 1
            low, high = (low, b) if too_large else (b, high)
        return published_action(q, low, epsilon, p, noise).min(), u

    low, high = 0.1, 0.4
    for _ in range(50):
        noise = (low + high) / 2
        value, u = side_action(noise)
        low, high = (noise, high) if value < 0 else (low, noise)
    return u


def test_limit_distinguishes_the_two_printed_prefactors():
    assert independent_limit_interaction(4 / np.pi) == pytest.approx(
        float(limit.limit_transition(PAPER).effective_interaction), rel=1e-4
    )
    assert independent_limit_interaction(2 / np.pi) == pytest.approx(23.0, abs=0.05)


def test_limit_is_invariant_along_the_scaling_family():
    reference = limit.limit_transition(PAPER, [-0.2, -0.3])
    for beta, alpha_over_beta in ((4, 1.0), (16, 1.0), (4, 2.0)):
        parameters = scaled(beta).model_copy(
            update={"train_size": int(3000 * beta * alpha_over_beta)}
        )
        found = limit.limit_transition(parameters, [-0.2, -0.3])
        np.testing.assert_allclose(found.noise, alpha_over_beta * reference.noise, rtol=1e-10)
        np.testing.assert_allclose(
            found.linear_discrepancy, reference.linear_discrepancy, rtol=1e-10
        )
        np.testing.assert_allclose(found.side_minimum, reference.side_minimum, rtol=1e-10)


def test_finite_size_theory_approaches_the_limit():
    expected = limit.limit_transition(PAPER).noise

    def distances(beta):
        b = 1 - theory.select(theory.solve(scaled(beta), 0.25, -0.3)).linear_overlap
        # The side mass that balances the discrepancy falls as 1/sqrt(beta), and tau with it.
        tau = 5e-4 / math.sqrt(beta)
        found = phases.transition_noise(scaled(beta), -0.3, noise_range=(0.1, 0.3), tau=tau)
        return abs(b - limit.linear_discrepancy(PAPER, 0.25)), abs(found.noise - expected)

    small, large = distances(4), distances(2500)
    assert large[0] < 0.1 * small[0]
    assert large[1] < 0.5 * small[1]
    assert large[1] < 2e-3


def test_a_fixed_threshold_does_not_give_the_transition_of_the_limit():
    """The side mass falls as 1/sqrt(beta): tau = 0.01 is crossed ever later, then not at all."""
    limiting = float(limit.limit_transition(PAPER).noise)
    found = [
        phases.transition_noise(scaled(beta), -0.3, noise_range=(0.05, 0.3), scan_points=60)
        for beta in (1, 4, 9)
    ]
    assert [one.noise < limiting for one in found[:2]] == [True, True]
    assert found[1].noise < found[0].noise - 0.01
    assert found[2].result == TransitionResult.NOT_REACHED


def test_side_mass_past_the_transition_falls_with_the_square_root_of_the_scale():
    masses = []
    for beta in (100, 400):
        solution = theory.select(theory.solve(scaled(beta), 0.14, -0.3))
        masses.append(phases.landscape(solution).side_mass * math.sqrt(beta))
    assert masses[0] == pytest.approx(masses[1], rel=0.03)
    assert masses[0] > 0.01


def test_limit_without_transition():
    found = limit.limit_transition(PAPER, [0.0, -0.3], noise_range=(0.2, 1.0))
    assert (found.result == limit.LimitResult.NOT_REACHED).all()
    assert np.isnan(found.noise).all()
    already = limit.limit_transition(PAPER, -0.3, noise_range=(0.05, 0.1))
    assert already.result == limit.LimitResult.ALREADY_REACHED
    with pytest.raises(ValueError, match="noise_range"):
        limit.limit_transition(PAPER, -0.3, noise_range=(1.0, 1.0))
    with pytest.raises(ValueError, match="positive"):
        limit.linear_discrepancy(PAPER, 0.0)


@pytest.mark.parametrize(
    ("train_size", "noise", "result"),
    [
        (300, 0.05, TransitionResult.DISCONTINUOUS),
        (3000, 0.3, TransitionResult.DISCONTINUOUS),
        (3000, 0.01, TransitionResult.ALREADY_REACHED),
        (3000, 2.0, TransitionResult.NOT_REACHED),
    ],
)
def test_the_transition_is_searched_around_the_noises_of_the_experiment(train_size, noise, result):
    """Fewer data move it below what a fixed interval around the paper's noises would hold."""
    specification = TheorySpecification(
        parameters=PAPER.model_copy(update={"train_size": train_size}),
        noises=[noise],
        theory=Theory(lowest_noise=noise / 2, highest_noise=noise),
        bin_width=0.05,
    )
    row = transition_table(specification).to_pylist()[0]
    assert row["result"] == result.name.lower()
    if result == TransitionResult.DISCONTINUOUS:
        wide = phases.transition_noise(specification.parameters, noise_range=(0.005, 1))
        assert row["noise"] == pytest.approx(float(wide.noise), rel=1e-6)


def test_the_limit_is_searched_around_the_noises_too():
    """Only n/noise enters: with a hundred times the data its transition lies at as much noise."""
    rows = [
        transition_table(
            TheorySpecification(
                parameters=PAPER.model_copy(update={"train_size": factor * PAPER.train_size}),
                noises=[0.2 * factor],
                theory=Theory(lowest_noise=0.1 * factor, highest_noise=0.3 * factor),
                bin_width=0.05,
            )
        ).to_pylist()[-1]
        for factor in (1, 100)
    ]
    assert [row["transition"] for row in rows] == ["limit", "limit"]
    assert rows[1]["noise"] == pytest.approx(100 * rows[0]["noise"], rel=1e-6)


@pytest.mark.parametrize("changes", [{"noise": 1e-8}, {"cubic_strength": 1e6}])
def test_integrals_that_would_not_end_are_refused(tmp_path, changes):
    noise = changes.get("noise", 0.1)
    specification = TheorySpecification(
        parameters=PAPER.model_copy(update=changes),
        noises=[noise],
        theory=Theory(lowest_noise=noise, highest_noise=0.3),
        bin_width=0.05,
    )
    with pytest.raises(GrokphaseError, match="panels, more than 7500: raise"):
        predict(specification, *(tmp_path / name for name in "abc"))
    assert not list(tmp_path.iterdir())


def test_observables_are_those_of_the_solution_in_their_units():
    """At a threshold and a tau of one's own."""
    solution = theory.select(theory.solve(PAPER, [0.1, 0.3], -0.3))
    found = phases.observables(solution, threshold=0.7, tau=0.2)
    for name in ("linear_overlap", "cubic_overlap", "test_loss"):
        np.testing.assert_array_equal(getattr(found, name), getattr(solution, name))
    np.testing.assert_array_equal(found.droplet_fraction, theory.tail_mass(solution, 0.7))
    prior = PAPER.weight_variance / PAPER.input_dim
    mean_square = theory.mean_square_overlap(solution)
    np.testing.assert_allclose(found.mean_square_overlap, mean_square / prior)
    saddles = found.landscape
    assert 0.01 < saddles.side_mass[0] < 0.2
    assert found.phase.tolist() == [phases.Phase.GFL] * 2
    barrier = one_neuron.action(saddles.barrier[:1], solution.discrepancy[0], PAPER, 0.1)
    assert saddles.barrier_action[0] == pytest.approx(barrier[0])
    assert np.isnan(saddles.barrier_action[1])


@pytest.mark.parametrize(
    ("unsolved", "result"),
    [
        ((0.3, 0.4), TransitionResult.NOT_CONVERGED),
        ((0.1999, 0.2001), TransitionResult.NOT_CONVERGED),
        ((0.05, 0.1), TransitionResult.DISCONTINUOUS),
    ],
)
def test_unsolved_noises_matter_down_to_the_transition(monkeypatch, unsolved, result):
    """A mass that jumps at noise 0.2, and is unknown in an interval."""

    def landscape(noise):
        mass = np.where(noise < 0.2, 0.02, 0.0)
        unknown = (unsolved[0] < noise) & (noise < unsolved[1])
        return SimpleNamespace(side_mass=np.where(unknown, np.nan, mass))

    monkeypatch.setattr(phases, "solve", lambda _, noise, epsilon, modes: noise + 0 * epsilon)
    monkeypatch.setattr(phases, "select", lambda solutions: solutions)
    monkeypatch.setattr(phases, "landscape", landscape)
    found = phases.transition_noise(PAPER, -0.3, noise_range=(0.02, 1.0), scan_points=50)
    assert found.result == result
    assert np.isfinite(found.noise) == (result == TransitionResult.DISCONTINUOUS)


def test_the_deepest_of_several_side_minima_is_the_one(monkeypatch):
    """Of minima at 0.5 and 1.5 nats of -1 and -3, behind maxima of 2 and 1 nats."""
    q = np.array([0.2, 0.5, 0.9, 1.5])
    values, curvature = np.array([0.0, 2.0, -1.0, 1.0, -3.0]), np.array([1.0, -1, 1, -1, 1])
    solution = theory.select(theory.solve(PAPER, 0.1, -0.3))
    monkeypatch.setattr(phases, "stationary_overlaps", lambda *_: q)
    for order in ([0, 1, 2, 3, 4], [0, 1, 4, 3, 2]):
        monkeypatch.setattr(phases, "action", lambda *_, order=order: values[order])
        monkeypatch.setattr(phases, "action_derivatives", lambda *_: (None, curvature))
        found = phases.landscape(solution)
        side = 1.5 if order[2] == 2 else 0.5
        assert [found.side_minimum, found.action_difference] == [side, -3]
        assert [found.barrier, found.barrier_action] == [0.2, 2]


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
