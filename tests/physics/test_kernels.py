"""Every kernel against exact results: prior, Gaussian targets, bias, reversibility, balance."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.models import teacher_student as model
from grokphase.parameters import TeacherStudent
from grokphase.sampling import tree
from grokphase.sampling.kernels import Target, load, names
from scipy.special import erf
from scipy.stats import chi2, kstest, norm

UNADJUSTED = {
    "isotropic_langevin": {"step_size": 0.4},
    "pcn_langevin": {"step_size": 0.4, "metropolis": False},
    "hamiltonian": {
        "step_size": 0.7,
        "leapfrog_steps": 2,
        "jitter": 0,
        "length_spread": 0,
        "metropolis": False,
    },
}
ADJUSTED = {
    "pcn_langevin": {"step_size": 0.6, "metropolis": True},
    "hamiltonian": {"step_size": 0.7, "leapfrog_steps": 2, "metropolis": True},
}


def build(target, name, settings):
    return load(name).build(target, load(name).Settings(**settings))


def separable(phi, scale=1.0, noise=1.0):
    """A target whose potential is the sum of phi over the entries of one array."""

    def potential_and_gradient(x):
        return jnp.sum(phi(x)), jax.grad(lambda x: jnp.sum(phi(x)))(x)

    return Target(potential_and_gradient, scale, noise)


def gaussian_variance(name, settings, k):
    """Exact stationary variance of an unadjusted kernel for Phi = k x^2/2, prior variance 1.

    One step is linear, x' = r x + s xi, hence the variance s^2/(1 - r^2).

    Euler         r = 1 - h(1 + k),          s^2 = 2h           ->  1/[(1 + k)(1 - h(1 + k)/2)]
    pCNL          r = (2 - h - 2hk)/(2 + h), s^2 = 8h/(2 + h)^2 ->  1/[(1 + k)(1 - hk/2)]
    Hamiltonian   a step conserves x^2/V + p^2                  ->  V = 1/(1 + h k cot h - h^2k^2/4)
    """
    h = settings["step_size"]
    if name == "isotropic_langevin":
        return 1 / ((1 + k) * (1 - h * (1 + k) / 2))
    if name == "pcn_langevin":
        return 1 / ((1 + k) * (1 - h * k / 2))
    if name == "hamiltonian":
        return 1 / (1 + h * k / np.tan(h) - (h * k / 2) ** 2)
    raise NotImplementedError(f"the stationary variance of the kernel {name} stands nowhere")


def test_every_kernel_is_tested():
    assert set(UNADJUSTED) == set(names())
    adjustable = {n for n in names() if "metropolis" in load(n).Settings.model_fields}
    assert set(ADJUSTED) == adjustable


# --- the prior ------------------------------------------------------------------------------------


def no_data(of):
    return model.Data(
        jnp.zeros((0, of.input_dim)), jnp.zeros(0), jnp.zeros(of.input_dim), of.noise, 0.0
    )


PRIOR = TeacherStudent(
    input_dim=40,
    width=500,
    train_size=1,
    weight_variance=0.5,
    readout_variance=1.953125,
    noise=0.18,
    cubic_strength=0,
)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*UNADJUSTED.items(), *ADJUSTED.items()],
    ids=[*(f"{n}-unadjusted" for n in UNADJUSTED), *(f"{n}-adjusted" for n in ADJUSTED)],
)
def test_variances_without_data_are_those_of_the_prior(run_chains, name, settings):
    """Var(a_i) = sigma_a^2/N, Var(w_ij) = sigma_w^2/d; with Euler's factor 1/(1 - h/2) per layer.

    Started at zero weights; 5 standard errors (false alarm < 1e-5 per kernel).
    """
    of, factor = PRIOR, np.ones(2)
    if name == "isotropic_langevin":
        gamma = of.noise / np.array(
            [of.readout_variance / of.width, of.weight_variance / of.input_dim]
        )
        settings = {"step_size": 0.25 / gamma[1]}
        h = settings["step_size"] * gamma
        np.testing.assert_allclose(h, [0.8, 0.25])
        factor = 1 / (1 - h / 2)
    kernel = build(model.target(of, no_data(of)), name, settings)
    start = model.Position(jnp.zeros((4, of.width)), jnp.zeros((4, of.width, of.input_dim)))
    position = run_chains(kernel, start, seed=3, burn_in=45, draws=4, thin=15)
    a, w = model.original_weights(position, of)
    expected = factor * [of.readout_variance / of.width, of.weight_variance / of.input_dim]
    for values, variance in ((a, expected[0]), (w, expected[1])):
        assert np.mean(np.square(values, dtype=float)) == pytest.approx(
            variance, rel=5 * math.sqrt(2 / values.size)
        )


# --- Gaussian targets -----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("name", UNADJUSTED)
def test_unadjusted_variance_on_a_gaussian_target(run_chains, name, k):
    """Exact bias of each unadjusted kernel, 400 000 values, 5 standard errors."""
    settings = UNADJUSTED[name]
    kernel = build(separable(lambda x: 0.5 * k * x**2), name, settings)
    x = run_chains(kernel, jnp.zeros((1, 50_000)), seed=1, burn_in=60, draws=8, thin=20)
    expected = gaussian_variance(name, settings, k)
    tolerance = 5 * math.sqrt(2 / x.size)
    assert np.mean(x**2) == pytest.approx(expected, rel=tolerance)
    if k or name == "isotropic_langevin":
        # The bias is large enough to be seen.
        assert abs(expected * (1 + k) - 1) > 3 * tolerance


@pytest.mark.parametrize("name", ADJUSTED)
def test_adjusted_kernels_are_exact_on_a_gaussian_target(run_chains, name):
    """Variance and distribution in four dimensions of unlike curvature; 1e-5 false alarm each."""
    k = jnp.array([0.0, 0.5, 2.0, 4.0])
    kernel = build(separable(lambda x: 0.5 * k * x**2 - x), name, ADJUSTED[name])
    start = jax.random.normal(jax.random.key(0), (8000, 4))
    x = run_chains(kernel, start, seed=2, burn_in=120)[:, 0]
    for values, curvature in zip(x.T, 1 + k, strict=True):
        exact = norm(1 / curvature, 1 / math.sqrt(curvature))
        assert kstest(values, exact.cdf).pvalue > 1e-5


# --- a target that is not Gaussian ----------------------------------------------------------------


def skewed(x):
    """A potential of varying curvature (up to 3) with linear tails."""
    return 3 * jnp.sqrt(1 + x**2) - 1.5 * x


GRID = np.linspace(-8, 8, 20_001)
DENSITY = np.exp(-(3 * np.sqrt(1 + GRID**2) - 1.5 * GRID) - GRID**2 / 2)
DENSITY /= DENSITY.sum()


@pytest.mark.parametrize("integrator", ["leapfrog", "two_stage"])
@pytest.mark.parametrize("error", [0.3, 2.0])
def test_an_approximate_force_leaves_the_hamiltonian_exact(run_chains, integrator, error):
    """However wrong it is: off by a slope and a shift (Kolmogorov-Smirnov, false alarm 1e-5)."""
    exact = separable(skewed)

    def wrong(x):
        return exact.potential_and_gradient(x)[1] + error * (0.5 - x)

    settings = {
        "step_size": 0.3,
        "leapfrog_steps": 4,
        "integrator": integrator,
        "force_precision": "bfloat16",
    }
    kernel = build(exact._replace(approximate_gradient=wrong), "hamiltonian", settings)
    start = jax.random.normal(jax.random.key(0), (20_000, 1))
    x = run_chains(kernel, start, seed=4, burn_in=60)[:, 0, 0]
    cumulative = np.cumsum(DENSITY) - 0.5 * DENSITY
    assert kstest(x, lambda q: np.interp(q, GRID, cumulative)).pvalue > 1e-5


def test_what_sweeps_begin_with_belongs_to_where_the_step_ended():
    """Whether the proposal was accepted or not; and the potential is the one that comes with it."""
    exact = separable(skewed)
    target = exact._replace(
        approximate_gradient=lambda x: exact.potential_and_gradient(x)[1] + 3 * (0.5 - x),
        potential_and_forward=lambda x: (exact.potential_and_gradient(x)[0] + 7.0, {"at": x}),
    )
    hamiltonian = load("hamiltonian")
    settings = hamiltonian.Settings(step_size=0.6, leapfrog_steps=4, force_precision="bfloat16")

    @jax.jit
    def one_step(key, x, accept_all):
        kernel = hamiltonian.build(target, settings, accept_all=accept_all)
        start = kernel.init(x)
        return start, *kernel.step(key, start)

    moved = {True: 0, False: 0}
    for key in jax.random.split(jax.random.key(2), 12):
        for accept_all in moved:
            start, after, info = one_step(key, jnp.array([0.7]), accept_all)
            for state in (start, after):
                wanted = float(skewed(state.position[0])) + 7.0
                assert float(state.potential) == pytest.approx(wanted, rel=1e-6)
            assert info.forward["at"] == after.position
            moved[accept_all] += bool(after.position != start.position)
    assert 2 < moved[False] < 10
    assert moved[True] == 12


def test_an_approximate_force_is_refused_where_it_would_be_wrong():
    hamiltonian = load("hamiltonian")
    settings = {"step_size": 0.1, "leapfrog_steps": 2, "force_precision": "bfloat16"}
    with pytest.raises(ValueError, match="needs metropolis: true"):
        hamiltonian.Settings(metropolis=False, **settings)


def test_forces_are_exact_where_there_are_none_in_bfloat16():
    settings = {"step_size": 0.3, "leapfrog_steps": 4}
    position = jnp.array([0.7])

    def end(**more):
        kernel = build(separable(skewed), "hamiltonian", settings | more)
        return kernel.step(jax.random.key(1), kernel.init(position))[0].position

    assert end(force_precision="bfloat16") == end()


@pytest.mark.parametrize("name", ADJUSTED)
def test_adjusted_kernels_are_exact_on_a_skewed_target(run_chains, name):
    """Kolmogorov-Smirnov on 20 000 independent chains (false alarm 1e-5)."""
    kernel = build(separable(skewed), name, ADJUSTED[name])
    start = jax.random.normal(jax.random.key(0), (20_000, 1))
    x = run_chains(kernel, start, seed=3, burn_in=60)[:, 0, 0]
    cumulative = np.cumsum(DENSITY) - 0.5 * DENSITY
    assert kstest(x, lambda q: np.interp(q, GRID, cumulative)).pvalue > 1e-5


@pytest.mark.parametrize(("name", "step"), [("isotropic_langevin", 0.2), ("pcn_langevin", 0.3)])
def test_bias_of_langevin_is_of_first_order_in_the_step(run_chains, name, step):
    """Halving h halves the bias of <x^2>, within 5 standard errors and more (1e-5)."""
    bias, error = [], []
    for h in (step, step / 2):
        kernel = build(separable(skewed), name, UNADJUSTED[name] | {"step_size": h})
        thin = round(1.5 / h)
        x = run_chains(
            kernel, jnp.zeros((1, 50_000)), seed=4, burn_in=4 * thin, draws=10, thin=thin
        )
        bias.append(np.mean(x**2, dtype=float) - DENSITY @ GRID**2)
        error.append(np.std(x**2) / math.sqrt(x.size))
    assert 5 * math.hypot(error[0] / bias[0], error[1] / bias[1]) < 0.25
    assert bias[0] / bias[1] == pytest.approx(2, rel=0.25)


# --- detailed balance and reversibility -----------------------------------------------------------


def wells(x):
    """A potential that couples its two coordinates."""
    return 0.3 * (x[0] ** 2 - 1) ** 2 + jnp.sin(x[0] * x[1]) + 0.2 * x[1] ** 4


WELLS = Target(jax.value_and_grad(wells), jnp.ones(()), jnp.ones(()))


def test_crank_nicolson_acceptance_is_that_of_detailed_balance(float64):
    """The log ratio is log [pi(v) q(v -> u)] - log [pi(u) q(u -> v)], with q written out."""
    h = 0.7
    adjusted = build(WELLS, "pcn_langevin", {"step_size": h, "metropolis": True})
    unadjusted = build(WELLS, "pcn_langevin", {"step_size": h, "metropolis": False})

    def log_density(x):
        return -wells(x) - 0.5 * x @ x

    def log_proposal(x, y):
        mean = ((2 - h) * x - 2 * h * jax.grad(wells)(x)) / (2 + h)
        return -jnp.sum((y - mean) ** 2) * (2 + h) ** 2 / (16 * h)

    for key in jax.random.split(jax.random.key(5), 10):
        u = jax.random.normal(jax.random.fold_in(key, 1), (2,))
        v = unadjusted.step(key, unadjusted.init(u))[0].position
        state, info = adjusted.step(key, adjusted.init(u))
        ratio = log_density(v) + log_proposal(v, u) - log_density(u) - log_proposal(u, v)
        assert float(info.log_ratio) == pytest.approx(float(ratio), abs=1e-10)
        assert float(info.acceptance) == pytest.approx(min(1, math.exp(ratio)), rel=1e-10)
        assert (np.array_equal(state.position, v)) != (np.array_equal(state.position, u))


INTEGRATORS = pytest.mark.parametrize("integrator", ["leapfrog", "two_stage"])
WRONG_FORCE = WELLS._replace(approximate_gradient=lambda x: jnp.sin(x) + 0.1 * x[::-1])


def trajectory(monkeypatch, integrator, h, steps, target=WELLS):
    """(position, momentum) -> (end position, end momentum, energy before - after).

    The end momentum follows from where one more repetition would go, half of a pair or not.
    """
    module = load("hamiltonian")
    adjusted_settings = module.Settings(
        step_size=h,
        jitter=0,
        length_spread=0,
        integrator=integrator,
        leapfrog_steps=steps,
        force_precision="float32" if target.approximate_gradient is None else "bfloat16",
    )

    def unadjusted(steps):
        changed = {"metropolis": False, "leapfrog_steps": steps}
        return module.build(target, adjusted_settings.model_copy(update=changed))

    short, long = unadjusted(steps), unadjusted(steps + 1)
    adjusted = module.build(target, adjusted_settings)
    first = {"leapfrog": 0.5, "two_stage": 2 * 0.21178}[integrator]
    key = jax.random.key(0)

    def run(x, p):
        with monkeypatch.context() as patch:
            patch.setattr(tree, "standard_normal", lambda key, like: p)
            end = short.step(key, short.init(x))[0]
            further = long.step(key, long.init(x))[0].position
            log_ratio = adjusted.step(key, adjusted.init(x))[1].log_ratio
        momentum = (further - jnp.cos(h) * end.position) / jnp.sin(h) + first * h * end.gradient
        return end.position, momentum, log_ratio

    return run


def energy(x, p):
    return wells(x) + 0.5 * (x @ x + p @ p)


@INTEGRATORS
@pytest.mark.parametrize("target", [WELLS, WRONG_FORCE], ids=["exact force", "approximate force"])
def test_a_trajectory_is_reversible_and_conserves_volume(float64, monkeypatch, integrator, target):
    """From the end with the opposite momentum it returns; its Jacobian has determinant 1."""
    run = trajectory(monkeypatch, integrator, 0.3, 6, target)
    x, p = jnp.array([0.4, -1.1]), jnp.array([0.7, 0.5])
    end, momentum, log_ratio = run(x, p)
    assert np.linalg.norm(end - x) > 0.5
    assert float(log_ratio) == pytest.approx(float(energy(x, p) - energy(end, momentum)), abs=1e-12)
    back, back_momentum, back_ratio = run(end, -momentum)
    np.testing.assert_allclose(back, x, atol=1e-11)
    np.testing.assert_allclose(back_momentum, -p, atol=1e-11)
    assert float(back_ratio) == pytest.approx(-float(log_ratio), abs=1e-12)

    jacobian = jax.jacfwd(lambda z: jnp.concatenate(run(z[:2], z[2:])[:2]))(jnp.concatenate([x, p]))
    assert float(jnp.linalg.det(jacobian)) == pytest.approx(1, abs=1e-10)


def energy_error(monkeypatch, integrator, steps):
    """Root mean square over trajectories of one duration."""
    starts = np.random.default_rng(6).standard_normal((20, 2, 2))
    run = jax.vmap(trajectory(monkeypatch, integrator, 1.2 / steps, steps))
    return np.sqrt(np.mean(run(starts[:, 0], starts[:, 1])[2] ** 2))


@INTEGRATORS
def test_energy_error_is_of_second_order(float64, monkeypatch, integrator):
    """Over a fixed time, halving the step divides the energy error by four."""
    sizes = [energy_error(monkeypatch, integrator, steps) for steps in (20, 40, 80)]
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.1)
    assert sizes[1] / sizes[2] == pytest.approx(4, rel=0.05)


def test_two_stages_have_the_smaller_energy_error(float64, monkeypatch):
    """At the same number of gradients."""
    one, two = (energy_error(monkeypatch, name, 12) for name in ("leapfrog", "two_stage"))
    assert two < 0.6 * one


def test_steps_of_two_stages_come_in_pairs():
    settings = {"step_size": 0.1, "integrator": "two_stage"}
    with pytest.raises(ValueError, match="leapfrog_steps 3 must be even"):
        load("hamiltonian").Settings(leapfrog_steps=3, **settings)
    with pytest.raises(ValueError, match="unadjusted_leapfrog_steps 5 must be even"):
        load("hamiltonian").Settings(leapfrog_steps=2, unadjusted_leapfrog_steps=5, **settings)


@pytest.mark.parametrize("accept_all", [False, True])
def test_steps_are_longer_and_more_only_while_every_proposal_is_accepted(float64, accept_all):
    kernel = load("hamiltonian")
    usual, unadjusted = {"step_size": 0.1, "leapfrog_steps": 3}, (0.4, 8)
    both = kernel.Settings(
        **usual, unadjusted_step_size=unadjusted[0], unadjusted_leapfrog_steps=unadjusted[1]
    )
    one = kernel.Settings(**(dict(zip(usual, unadjusted, strict=True)) if accept_all else usual))
    assert both.gradients(0.25) == 0.25 * 8 + 0.75 * 3
    steps = [
        kernel.build(WELLS, settings, accept_all=jnp.asarray(accept_all))
        for settings in (both, one)
    ]
    start = jnp.ones(2)
    found, wanted = (step.step(jax.random.key(5), step.init(start))[0].position for step in steps)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert not np.allclose(found, start)


def test_hamiltonian_conserves_the_energy_of_the_prior_exactly(float64, monkeypatch):
    """Without data nothing is rejected, for any step size."""
    kernel = build(separable(lambda x: 0 * x), "hamiltonian", ADJUSTED["hamiltonian"])
    for seed in range(5):
        state = kernel.init(jax.random.normal(jax.random.key(seed), (50,)))
        assert abs(float(kernel.step(jax.random.key(seed), state)[1].log_ratio)) < 1e-12


def test_a_step_beyond_all_bounds_is_rejected_not_propagated():
    """A proposal with an infinite or undefined potential leaves the state as it was."""
    cliff = separable(lambda x: jnp.where(jnp.abs(x) < 0.1, 0.0, jnp.nan) * x)
    for name, settings in ADJUSTED.items():
        kernel = build(cliff, name, settings)
        state = kernel.init(jnp.full(20, 0.01))
        after, info = kernel.step(jax.random.key(0), state)
        np.testing.assert_array_equal(after.position, state.position)
        assert float(info.acceptance) == 0


# --- the readout layer given the weights ----------------------------------------------------------


def readout_problem():
    of = TeacherStudent(
        input_dim=3,
        width=4,
        train_size=6,
        weight_variance=3.0,
        readout_variance=2.0,
        noise=2.0,
        cubic_strength=-0.3,
    )
    generator = np.random.default_rng(8)
    teacher = np.float32([0.6, 0.0, 0.8])
    inputs = generator.standard_normal((6, 3)).astype(np.float32)
    y = model.targets(inputs, teacher, of.cubic_strength)
    data = model.Data(*map(jnp.float32, (inputs, y, teacher, of.noise, of.cubic_strength)))
    weights = generator.standard_normal((4, 3)).astype(np.float32)
    return of, data, weights


def readout_posterior(of, data, weights):
    """Mean and precision of the whitened readout given the weights: linear regression."""
    w = np.sqrt(of.weight_variance / of.input_dim) * np.asarray(weights, float)
    features = np.sqrt(of.readout_variance / of.width) * erf(np.asarray(data.inputs) @ w.T)
    precision = features.T @ features / of.noise + np.eye(of.width)
    return np.linalg.solve(precision, features.T @ np.asarray(data.targets) / of.noise), precision


@pytest.mark.parametrize(
    ("name", "settings"),
    [*UNADJUSTED.items(), *ADJUSTED.items()],
    ids=[*(f"{n}-unadjusted" for n in UNADJUSTED), *(f"{n}-adjusted" for n in ADJUSTED)],
)
def test_readout_given_the_weights_is_gaussian(run_chains, name, settings):
    """a|W ~ N(m, C): the mean and each principal variance; 5 standard errors (1e-5 per kernel).

    Unadjusted kernels have the exact mean and the variances of a Gaussian target.
    """
    of, data, weights = readout_problem()
    full = model.target(of, data)

    def readout_only(alpha):
        potential, gradient = full.potential_and_gradient(model.Position(alpha, weights))
        return potential, gradient.readout

    mean, precision = readout_posterior(of, data, weights)
    if name == "isotropic_langevin":
        settings = {"step_size": 0.1 / (of.noise * of.width / of.readout_variance)}
    target = Target(readout_only, full.prior_scale.readout, data.noise)
    start = jnp.zeros((6000, of.width))
    draws = run_chains(build(target, name, settings), start, seed=7, burn_in=100)[:, 0]

    curvature, axes = np.linalg.eigh(precision)
    assert curvature[-1] > 3
    exact = 1 / curvature
    if name == "isotropic_langevin":
        exact = gaussian_variance(name, {"step_size": 0.1}, curvature - 1)
    elif not settings["metropolis"]:
        exact = gaussian_variance(name, settings, curvature - 1)
    standard = (draws - mean) @ axes / np.sqrt(exact)
    second = standard.T @ standard / len(draws)
    assert np.abs(standard.mean(axis=0)).max() < 5 / math.sqrt(len(draws))
    assert np.abs(np.diag(second) - 1).max() < 5 * math.sqrt(2 / len(draws))
    assert np.abs(second - np.diag(np.diag(second))).max() < 5 / math.sqrt(len(draws))


@pytest.mark.parametrize("name", ADJUSTED)
def test_readout_of_the_full_sampler_is_gaussian_given_its_weights(run_chains, name):
    """E[a - m(W)] = 0, and (a - m)^T C^-1 (a - m) is chi-squared with N degrees of freedom.

    4000 independent chains over all weights (false alarm < 1e-4).
    """
    of, data, _ = readout_problem()
    start = model.Position(
        jax.random.normal(jax.random.key(1), (4000, of.width)),
        jax.random.normal(jax.random.key(2), (4000, of.width, of.input_dim)),
    )
    kernel = build(model.target(of, data), name, ADJUSTED[name])
    draws = run_chains(kernel, start, seed=9, burn_in=80)
    standard, distance = [], []
    for alpha, weights in zip(draws.readout[:, 0], draws.weights[:, 0], strict=True):
        mean, precision = readout_posterior(of, data, weights)
        standard.append((alpha - mean) @ np.linalg.cholesky(precision))
        distance.append(standard[-1] @ standard[-1])
    assert np.abs(np.mean(standard, axis=0)).max() < 5 / math.sqrt(len(standard))
    assert kstest(distance, chi2(of.width).cdf).pvalue > 1e-5
