"""The teacher-student model: closed forms, exact gradient, symmetries, starting positions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase import training
from grokphase.datasets import Dataset
from grokphase.models import teacher_student as model
from grokphase.parameters import TeacherStudent
from grokphase.sampling.kernels import State
from grokphase.specifications.training import Networks, PlantedStart, TrainingSpecification
from grokphase.tables.observables import OBSERVABLES, STEIN_VARIATES
from jax.flatten_util import ravel_pytree
from numpy.polynomial.hermite_e import hermegauss, hermeval
from scipy.special import erf
from scipy.stats import kstest

NAMES = OBSERVABLES["teacher_student"]


def parameters(**changes):
    values = {
        "input_dim": 3,
        "width": 6,
        "train_size": 9,
        "weight_variance": 1.7,
        "readout_variance": 2.3,
        "noise": 0.4,
        "cubic_strength": -0.3,
    }
    return TeacherStudent(**values | changes)


def problem(of, seed=0, dtype=np.float32):
    """A data set and a whitened position with overlaps of all sizes."""
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((of.train_size, of.input_dim)).astype(dtype)
    teacher = generator.standard_normal(of.input_dim)
    teacher = (teacher / np.linalg.norm(teacher)).astype(dtype)
    position = model.Position(
        generator.standard_normal(of.width).astype(dtype),
        generator.standard_normal((of.width, of.input_dim)).astype(dtype),
    )
    data = model.Data(
        *map(
            jnp.asarray,
            (
                inputs,
                model.targets(inputs, teacher, of.cubic_strength).astype(dtype),
                teacher,
                dtype(of.noise),
                dtype(of.cubic_strength),
            ),
        )
    )
    return jax.tree.map(jnp.asarray, position), data


def weights(position, of):
    """Original weights (a [N], W [N, d]) in float64, from the prior variances alone."""
    return (
        math.sqrt(of.readout_variance / of.width) * np.asarray(position.readout, float),
        math.sqrt(of.weight_variance / of.input_dim) * np.asarray(position.weights, float),
    )


def measured(position, of, data):
    potential, _ = model.target(of, data).potential_and_gradient(position)
    values = model.observables(position, potential, of, data)
    assert values.shape == (len(NAMES),)
    return dict(zip(NAMES, np.asarray(values, float).tolist(), strict=True))


def compare_with_quadrature(dtype, tolerance):
    """Overlaps and test loss against a Gauss-Hermite rule over all of input space (d = 3)."""
    of = parameters()
    position, data = problem(of, dtype=dtype)
    nodes, mass = hermegauss(64)
    x = np.array(list(itertools.product(nodes, repeat=3)))
    probability = np.prod(list(itertools.product(mass, repeat=3)), axis=1) / (2 * np.pi) ** 1.5
    a, w = weights(position, of)
    f = erf(x @ w.T) @ a
    z = x @ np.asarray(data.teacher, float)
    linear, cubic = hermeval(z, [0, 1]), hermeval(z, [0, 0, 0, 1])
    found = measured(position, of, data)
    assert found["linear_overlap"] == pytest.approx(probability @ (f * linear), abs=tolerance)
    assert found["cubic_overlap"] == pytest.approx(probability @ (f * cubic) / 6, abs=tolerance)
    difference = f - linear - of.cubic_strength * cubic
    assert found["test_loss"] == pytest.approx(probability @ difference**2, abs=tolerance)


def test_closed_forms_match_quadrature_in_double_precision(float64):
    compare_with_quadrature(np.float64, 1e-8)


def test_closed_forms_match_quadrature_in_single_precision():
    compare_with_quadrature(np.float32, 2e-6)


def test_closed_forms_match_monte_carlo_in_high_dimension():
    """d = 40, 300 000 inputs, 5 standard errors each (false alarm < 1e-5)."""
    of = parameters(input_dim=40, width=20)
    position, data = problem(of, seed=1)
    shift = np.linspace(-4, 4, of.width)[:, None] * np.asarray(data.teacher)
    position = position._replace(weights=position.weights + shift)
    x = np.random.default_rng(2).standard_normal((300_000, 40), dtype=np.float32)
    a, w = weights(position, of)
    f = erf(x @ w.T.astype(np.float32)) @ a
    z = x @ np.asarray(data.teacher)
    he3 = z**3 - 3 * z
    found = measured(position, of, data)
    for name, values in (
        ("linear_overlap", f * z),
        ("cubic_overlap", f * he3 / 6),
        ("test_loss", (f - z - of.cubic_strength * he3) ** 2),
    ):
        error = values.std() / math.sqrt(len(values))
        assert found[name] == pytest.approx(values.mean(), abs=5 * error), name


@pytest.mark.parametrize("seed", range(3))
def test_direct_observables(seed):
    of = parameters(width=50, input_dim=4)
    position, data = problem(of, seed)
    a, w = weights(position, of)
    q = w @ np.asarray(data.teacher, float)
    f = erf(np.asarray(data.inputs, float) @ w.T) @ a
    found = measured(position, of, data)
    variance = of.weight_variance / of.input_dim
    assert found["mean_square_overlap"] == pytest.approx((q**2).mean() / variance, rel=1e-5)
    assert 0 < found["droplet_fraction"] < 1
    assert found["droplet_fraction"] == pytest.approx((np.abs(q) > 0.5).mean(), abs=1e-6)
    assert found["weight_norm"] == pytest.approx((w**2).mean() / variance, rel=1e-5)
    residual = f - np.asarray(data.targets)
    assert found["train_loss"] == pytest.approx((residual**2).mean(), rel=1e-5)
    np.testing.assert_allclose(model.overlaps(position, of, data), q, atol=1e-6)


def test_a_network_of_zeros_has_the_loss_of_the_teacher():
    """E[y^2] = 1 + 6 eps^2."""
    of = parameters()
    position, data = problem(of)
    found = measured(jax.tree.map(jnp.zeros_like, position), of, data)
    assert found["test_loss"] == pytest.approx(1 + 6 * 0.3**2, rel=1e-6)
    assert found["linear_overlap"] == found["cubic_overlap"] == found["weight_norm"] == 0


def test_targets_are_hermite_polynomials():
    generator = np.random.default_rng(0)
    x, teacher = generator.standard_normal((50, 4)), np.array([0.6, 0, 0.8, 0])
    expected = hermeval(0.6 * x[:, 0] + 0.8 * x[:, 2], [0, 1, 0, -1.2])
    np.testing.assert_allclose(model.targets(x, teacher, -1.2), expected, rtol=1e-12)


def test_symmetries_of_the_network():
    """(a_i, w_i) -> -(a_i, w_i) and permutations of neurons change no observable."""
    of = parameters()
    position, data = problem(of)
    order = np.array([3, 0, 5, 1, 4, 2])
    sign = np.array([1, -1, -1, 1, 1, -1], np.float32)
    moved = model.Position(
        (sign * position.readout)[order], (sign[:, None] * position.weights)[order]
    )
    first, second = measured(position, of, data), measured(moved, of, data)
    assert first == pytest.approx(second, rel=1e-5)
    np.testing.assert_allclose(
        model.overlaps(moved, of, data), (sign * model.overlaps(position, of, data))[order]
    )


def independent_potential(position, of, data):
    """Phi = L/noise neuron by neuron."""
    f = 0.0
    for alpha, v in zip(position.readout, position.weights, strict=True):
        w = v * jnp.sqrt(of.weight_variance / of.input_dim)
        f += (
            alpha
            * jnp.sqrt(of.readout_variance / of.width)
            * jax.scipy.special.erf(data.inputs @ w)
        )
    return 0.5 * jnp.sum((data.targets - f) ** 2) / of.noise


@pytest.mark.parametrize("seed", range(3))
def test_gradient_in_double_precision(float64, seed):
    """Against automatic differentiation of another implementation and central differences."""
    of = parameters(noise=0.07, cubic_strength=-1.2)
    position, data = problem(of, seed, np.float64)
    evaluate = model.target(of, data).potential_and_gradient
    potential, gradient = evaluate(position)
    expected = jax.value_and_grad(independent_potential)(position, of, data)
    np.testing.assert_allclose(potential, expected[0], rtol=1e-12)
    for found, wanted in zip(gradient, expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-11)

    direction, _ = problem(of, seed + 100, np.float64)
    h = 1e-5
    ahead, behind = (
        evaluate(jax.tree.map(lambda x, v, s=s: x + s * h * v, position, direction))[0]
        for s in (1, -1)
    )
    slope = sum(jnp.vdot(g, v) for g, v in zip(gradient, direction, strict=True))
    assert float(slope) == pytest.approx(float((ahead - behind) / (2 * h)), rel=1e-7)


def test_gradient_in_single_precision():
    of = parameters(width=100, train_size=300, input_dim=20)
    position, data = problem(of)
    potential, gradient = jax.jit(model.target(of, data).potential_and_gradient)(position)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (position, data))
        expected = model.target(of, exact[1]).potential_and_gradient(exact[0])
    assert gradient.weights.dtype == jnp.float32
    assert float(potential) == pytest.approx(float(expected[0]), rel=1e-5)
    for found, wanted in zip(gradient, expected[1], strict=True):
        scale = np.sqrt(np.mean(np.square(wanted)))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("elements", [1, 40, 150, 10**6])
def test_gradient_does_not_depend_on_how_the_training_set_is_divided(
    float64, monkeypatch, elements
):
    """Blocks of one row, blocks that do not divide the training set, and a single block."""
    monkeypatch.setattr(model, "BLOCK_ELEMENTS", elements)
    of = parameters(width=20, train_size=37)
    position, data = problem(of, dtype=np.float64)
    blocks = model.row_blocks(of, data)[1].shape
    assert blocks[0] == math.ceil(37 * 20 / elements) if elements > 20 else blocks[1] == 1
    found = model.target(of, data).potential_and_gradient(position)
    expected = jax.value_and_grad(independent_potential)(position, of, data)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    for one, wanted in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("elements", [2**12, 2**30])
def test_the_gradient_in_bfloat16_is_close(monkeypatch, elements):
    """Rounding to eight bits, 2^-9 at most for each factor, averages over the sums."""
    monkeypatch.setattr(model, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: True)
    of = parameters(width=70, train_size=301, input_dim=50, weight_variance=0.5, noise=0.2)
    position, data = problem(of)
    target = model.target(of, data)
    gradient = target.potential_and_gradient(position)[1]
    found = target.approximate_gradient(position)
    for one, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True):
        assert one.dtype == wanted.dtype
        error = np.linalg.norm(one - wanted) / np.linalg.norm(wanted)
        assert 1e-5 < error < 4e-3


def test_the_rough_erf_is_rough_and_its_slope_that_of_itself():
    x = np.linspace(-6, 6, 24_001)
    assert np.abs(model.rough_erf(jnp.asarray(x, jnp.float32)) - erf(x)).max() < 4e-4
    inside = jnp.asarray(x[np.abs(x) < 2.39], jnp.float32)
    slope = jax.vmap(jax.grad(model.rough_erf))(inside)
    np.testing.assert_allclose(
        2 / math.sqrt(math.pi) * model._rough_slope(inside), slope, atol=2e-5
    )
    np.testing.assert_allclose(slope, 2 / math.sqrt(math.pi) * np.exp(-(inside**2)), atol=6e-3)


def test_without_products_in_bfloat16_there_is_no_approximate_gradient(monkeypatch):
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: False)
    of = parameters()
    assert model.target(of, problem(of)[1]).approximate_gradient is None


def test_on_an_accelerator_no_forward_pass_is_handed_on(monkeypatch):
    """Side by side, networks that accept would be computed twice with those that do not."""
    of = parameters()
    data = problem(of)[1]
    assert model.target(of, data).potential_and_forward is not None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert model.target(of, data).potential_and_forward is None


@pytest.mark.parametrize("elements", [2**12, 2**30])
def test_gradient_of_the_papers_network_is_exact_to_single_precision(monkeypatch, elements):
    """Relative to the largest entry, against float64: a few units of 6e-8 per summed term."""
    monkeypatch.setattr(model, "BLOCK_ELEMENTS", elements)
    of = parameters(width=70, train_size=300, input_dim=50, weight_variance=0.5, noise=0.2)
    position, data = problem(of)
    found = jax.jit(model.target(of, data).potential_and_gradient)(position)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (position, data))
        expected = model.target(of, exact[1]).potential_and_gradient(exact[0])
    for one, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(one - np.asarray(wanted)).max() < 3e-6 * np.abs(wanted).max()


def test_arcsin_is_exact_to_rounding():
    x = np.concatenate([np.linspace(-1, 1, 100_001), np.geomspace(1e-30, 1, 1000)])
    x = np.concatenate([x, [0.0, -0.0, 0.5, np.nextafter(np.float32(0.5), 1)]]).astype(np.float32)
    found, exact = np.asarray(jax.jit(model.arcsin)(x)), np.arcsin(x.astype(np.float64))
    np.testing.assert_allclose(found, exact, rtol=3e-7, atol=1e-37)
    assert np.isnan(model.arcsin(jnp.float32(1.001)))


def test_arcsin_in_double_precision(float64):
    x = np.linspace(-1, 1, 1001)
    np.testing.assert_allclose(model.arcsin(jnp.asarray(x)), np.arcsin(x), rtol=1e-14, atol=1e-15)


def test_load_data_is_single_precision_with_the_teacher_values():
    of = parameters(cubic_strength=-1.2)
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((9, 3)).astype(np.float32)
    data = model.load_data(of, Dataset(inputs, np.float32([0, 0.6, 0.8])))
    assert {x.dtype for x in data} == {jnp.dtype("float32")}
    z = inputs @ np.float32([0, 0.6, 0.8])
    np.testing.assert_allclose(data.targets, hermeval(z, [0, 1, 0, -1.2]), rtol=1e-5, atol=1e-6)
    assert float(data.noise) == pytest.approx(0.4)


@pytest.mark.parametrize(("inputs", "variates"), [(99, 0), (100, 3)])
def test_control_variates_are_of_training_sets_that_are_not_small(inputs, variates):
    data = problem(parameters(train_size=inputs))[1]
    assert model.control_variates(data).shape == (variates,)


def test_control_variates_are_zero_in_the_population():
    """mean z^2 - 1, mean z He_3(z) and mean He_3(z)^2/6 - 1: 500 data sets, 5 standard errors."""
    of = parameters(train_size=100)
    values = []
    for seed in range(500):
        _, data = problem(of, seed)
        z = np.asarray(data.inputs, float) @ np.asarray(data.teacher, float)
        values.append(model.control_variates(data))
        cubic = hermeval(z, [0, 0, 0, 1])
        expected = [(z**2).mean() - 1, (z * cubic).mean(), (cubic**2).mean() / 6 - 1]
        np.testing.assert_allclose(values[-1], expected, rtol=1e-9, atol=1e-9)
    error = np.std(values, axis=0) / math.sqrt(len(values))
    assert (np.abs(np.mean(values, axis=0)) < 5 * error).all()
    # Var z^2 = 2 and Var[z He_3] = E[z^2 He_3^2] = 42, over 100 inputs.
    assert np.var(values, axis=0)[:2] == pytest.approx([2 / 100, 42 / 100], rel=0.5)


KERNEL = {"kernel": "hamiltonian", "step_size": 0.02, "leapfrog_steps": 2}


def specification(of, **settings):
    """Two draws without burn-in."""
    return TrainingSpecification(
        experiment="e",
        seed=0,
        point="p",
        model="teacher_student",
        parameters=of,
        burn_in=0,
        draws=2,
        thin=1,
        planted=PlantedStart(),
        **{"kernel": KERNEL, **settings},
    )


def test_a_start_from_the_prior_has_standard_normal_input_weights():
    """Kolmogorov-Smirnov (false alarm < 1e-5), and uncorrelated components."""
    of = parameters(width=20_000, input_dim=3, train_size=5)
    _, data = problem(of)
    position = model.start(jax.random.key(0), "prior", of, data, PlantedStart())
    assert kstest(np.ravel(position.weights), "norm").pvalue > 1e-5
    correlation = np.corrcoef(position.weights.T) - np.eye(3)
    assert np.abs(correlation).max() < 5 / math.sqrt(of.width)


def test_readouts_are_drawn_from_their_posterior_given_the_weights():
    """Mean and covariance in closed form; 4000 draws, 5 standard errors and the tolerance 1e-3 of
    the conjugate gradients (false alarm < 1e-4)."""
    of = parameters(width=6, input_dim=3, train_size=15, noise=0.3)
    position, data = problem(of)
    scale = model.prior_scale(of)
    features = scale.readout * erf(data.inputs @ (scale.weights * position.weights).T)
    features = np.asarray(features, float)
    covariance = np.linalg.inv(np.eye(6) + features.T @ features / of.noise)
    mean = covariance @ features.T @ np.asarray(data.targets, float) / of.noise
    draw = jax.jit(jax.vmap(lambda key: model.draw_readouts(key, position.weights, of, data)))
    draws = np.asarray(draw(jax.random.split(jax.random.key(3), 4000)), float)
    error = np.sqrt(np.diag(covariance) / len(draws))
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * error + 3e-3).all()
    size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2)
    found = np.cov(draws.T)
    assert (np.abs(found - covariance) < 5 * size / math.sqrt(len(draws)) + 3e-3).all()
    assert np.abs(covariance - np.eye(6)).max() > 0.1


def test_readouts_start_at_the_noise_where_a_network_begins():
    """An annealed network's, not that of its point: at a high one they are those of the prior."""
    of = parameters(width=200, input_dim=3, train_size=300, noise=1e-3)
    _, data = problem(of)
    spec = specification(of, networks=Networks(prior=2, planted=0))
    keys = jnp.stack([jax.random.key(0)] * 2)[None]
    placed = model.place(keys[0, 0], "prior", of, data, PlantedStart())
    positions = jax.tree.map(lambda x: np.stack([x, x])[None], placed)
    together = jax.tree.map(lambda x: jnp.asarray(x)[None], data)
    sampler = training._sampler(spec, model, 1)
    begun = sampler.start(positions, together, keys, jnp.array([1.0, 1e9]))
    own, hot = begun.state.position.readout[0]
    assert kstest(hot, "norm").pvalue > 1e-5
    settled = model.settle(keys[0, 0], placed, of, data).readout
    # Along what the data leave open conjugate gradients are not accurate.
    assert np.corrcoef(own, settled)[0, 1] > 0.98
    assert np.corrcoef(own, hot)[0, 1] < 0.9
    # Their potential is that of the point.
    position = jax.tree.map(lambda x: x[0, 1], begun.state.position)
    expected, _ = model.target(of, data).potential_and_gradient(position)
    assert float(begun.state.potential[0, 1]) == pytest.approx(float(expected), rel=1e-5)


def test_a_planted_start_is_never_a_prior_start():
    """Also where the fraction of a few neurons is less than one."""
    of = parameters(width=12, input_dim=40, train_size=5)
    _, data = problem(of)
    planted, prior = (
        model.start(jax.random.key(1), kind, of, data, PlantedStart(fraction=0.04))
        for kind in ("planted", "prior")
    )
    q = np.asarray(model.overlaps(planted, of, data))
    assert np.isclose(np.abs(q), 0.8, rtol=1e-5).sum() == 1
    assert (planted.weights != prior.weights).any(axis=1).sum() == 1


def test_a_planted_start_has_droplets_that_support_the_teacher():
    """`fraction` of the neurons at q = +-overlap, whose readouts follow; the rest prior."""
    of = parameters(width=400, input_dim=10, train_size=200, weight_variance=0.5, noise=0.1)
    _, data = problem(of)
    planted = PlantedStart(fraction=0.1, overlap=0.8)
    position = model.start(jax.random.key(1), "planted", of, data, planted)
    prior = model.start(jax.random.key(1), "prior", of, data, planted)
    q = np.asarray(model.overlaps(position, of, data))
    droplet = np.arange(400) < 40
    np.testing.assert_allclose(np.abs(q[droplet]), 0.8, rtol=1e-5)
    # Both signs occur: 5 standard deviations of 40 fair coins (false alarm < 1e-6).
    assert abs(np.sign(q[droplet]).sum()) < 5 * math.sqrt(40)
    assert np.mean(np.sign(q[droplet]) * position.readout[droplet]) > 0.2
    np.testing.assert_array_equal(position.weights[~droplet], prior.weights[~droplet])
    # Only the component along the teacher was moved.
    moved = np.asarray(position.weights - prior.weights)
    teacher = np.asarray(data.teacher)
    across = moved - np.outer(moved @ teacher, teacher)
    np.testing.assert_allclose(across, 0, atol=1e-5)


# --- Stein variates -------------------------------------------------------------------------------


def state_of(of, data, position):
    return State(position, *model.target(of, data).potential_and_gradient(position))


def trial_functions(of, data, position):
    """The trial functions, written out."""
    a = position.readout * math.sqrt(of.readout_variance / of.width)
    w = position.weights * math.sqrt(of.weight_variance / of.input_dim)
    q, square = w @ data.teacher, jnp.sum(w**2, axis=1)
    u = q / jnp.sqrt(1 + 2 * square)
    each = {
        "linear_overlap": a * u,
        "cubic_overlap": a * u**3,
        "mean_square_overlap": q**2 * of.input_dim / of.weight_variance / of.width,
        "readout_norm": position.readout**2 / of.width,
        "weight_norm": square / of.weight_variance / of.width,
        "output_power": a**2 * u**2 / of.readout_variance,
        "droplet_fraction": 1 / (1 + jnp.exp((0.25 - q**2) / 0.05)) / of.width,
    }
    return jnp.stack([each[name].sum() for name in STEIN_VARIATES["teacher_student"]])


@pytest.mark.parametrize("seed", range(3))
def test_variates_are_the_generator_of_the_trial_functions(seed):
    """Laplacian and gradients by automatic differentiation in all coordinates at once."""
    of = parameters()
    with jax.enable_x64(True):
        position, data = problem(of, seed, np.float64)
        flat, unflatten = ravel_pytree(position)

        @jax.jit
        def both(x, data):
            def potential(x):
                return model.target(of, data).potential_and_gradient(unflatten(x))[0] + x @ x / 2

            def trial(x):
                return trial_functions(of, data, unflatten(x))

            laplacian = jnp.trace(jax.hessian(trial)(x), axis1=1, axis2=2)
            expected = laplacian - jax.jacobian(trial)(x) @ jax.grad(potential)(x)
            return model.stein_variates(state_of(of, data, unflatten(x)), of, data), expected

        found, expected = both(flat, data)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_variates_have_zero_average_over_a_posterior():
    """One neuron with one input: its posterior is integrated on a grid, far from the prior."""
    of = parameters(input_dim=1, width=1, train_size=4, weight_variance=2.0, readout_variance=2.0)
    with jax.enable_x64(True):
        _, data = problem(of, dtype=np.float64)
        axis = np.linspace(-7, 7, 701)

        @jax.jit
        def at(readout, weight):
            state = state_of(of, data, model.Position(readout[None], weight[None, None]))
            energy = state.potential + (readout**2 + weight**2) / 2
            return energy, model.stein_variates(state, of, data)

        energy, variates = jax.vmap(jax.vmap(at, (None, 0)), (0, None))(axis, axis)
        weight = np.exp(-(energy - energy.min()))
        weight /= weight.sum()
        average = np.einsum("rw,rwk->k", weight, variates)
        size = np.sqrt(np.einsum("rw,rwk->k", weight, np.square(variates)))
    assert (size > 0.1).all()
    np.testing.assert_allclose(average / size, 0, atol=1e-6)


def test_variates_are_recorded_with_the_exact_gradient(monkeypatch):
    """Forces in bfloat16, whose errors have a fixed sign, move the networks alone."""
    monkeypatch.setattr(model, "multiplies_bfloat16", lambda: True)
    of = parameters(input_dim=20, width=30, train_size=200)
    spec = specification(
        of,
        networks=Networks(prior=1, planted=0),
        kernel=KERNEL | {"force_precision": "bfloat16"},
        neuron_sweeps=1,
    )
    _, data = problem(of)
    start = model.start(jax.random.key(0), "prior", of, data, spec.planted)
    together, positions = (
        jax.tree.map(lambda x: jnp.asarray(x)[None], data),
        jax.tree.map(lambda x: x[None, None], start),
    )
    sampler = training._sampler(spec, model, 1)
    keys = jax.random.split(jax.random.key(1), (1, 1))
    begun = sampler.start(positions, together, keys)
    ended = sampler.run(keys, begun, together, lambda now: None)
    state = jax.tree.map(lambda x: x[0, 0], ended.state)
    exact = model.stein_variates(state_of(of, data, state.position), of, data)
    rough = model.stein_variates(state, of, data)
    recorded = ended.observables[0, 0, -1, -len(rough) :]
    np.testing.assert_allclose(recorded, exact, rtol=1e-3, atol=1e-4)
    assert (np.abs(rough - exact) > 10 * np.abs(recorded - exact)).any()
