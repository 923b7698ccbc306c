"""Mean-field theory of the modular-addition network: mode action, self-consistency, phases.

A neuron's input weights enter through the powers A = |w_k|^2 and B = |v_k|^2 of their Fourier
modes, w_n = sum_k w_k exp(-2 pi i k n/P). With the network's mean discrepancy a (mean f - y = a y;
a = -1 when nothing is learned) the action of one mode is

    S_k(A, B) = P { (A + B)/2 - u a^2 A B + (gamma/6)(A^3 + B^3) },
    u = 2 sigma_a^2 P^2/(N sigma^4),

and a follows from the eigenvalue lambda of the mean kernel on the target,
a = -sigma^2/(lambda + sigma^2).

Two choices are separate throughout:

- the *closure*, that is the eigenvalue. ``as_published``: lambda = sigma_a^2 <A B> (the preprint,
  arXiv:2310.03789v1, and the published version, v3). ``corrected``: lambda = 4 P^2 sigma_a^2 <A B>,
  because (w_n + v_m)^2 contains 2 w_n v_m, which is 2 P w_k v_k' on the orthonormal mode (k, k').
- the *average* <A B>. ``two_point``: 4 W^2 e^{-S}/(1 + 4 e^{-S}) at the side saddle, as published.
  ``quadrature``: the exact integral with density exp(-2 S_k) dA dB on A, B >= 0: k and -k are one
  complex mode, whose real and imaginary parts have the measure dA.

In the variables x = A sqrt(gamma), g = u a^2/sqrt(gamma) the action is
beta {(x + y)/2 - g x y + (x^3 + y^3)/6} with beta = P/sqrt(gamma), so <A B> depends on g alone, and
the self-consistency is explicit: |a|/sigma^2 = kappa(g) and sigma^2 = 1/kappa(g) - lambda(g). The
right side decreases strictly in g (d<xy>/dg = 2 beta Var(xy) >= 0), hence the equilibrium equation
has at most one solution at each noise. Hysteresis is the work of the barrier inside the action, and
the ``droplet_fraction`` argument gives those metastable branches.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from grokphase.parameters import ModularAddition

Closure = Literal["as_published", "corrected"]
Average = Literal["two_point", "quadrature"]
Array = NDArray[np.float64]

CLOSURES: tuple[Closure, ...] = ("as_published", "corrected")
AVERAGES: tuple[Average, ...] = ("two_point", "quadrature")
PHASES = ("GFL", "GMFL-I", "GMFL-II")


class Saddles(NamedTuple):
    """Stationary points of the mode action on A = B beyond the origin; NaN where there are none."""

    barrier: Array
    """W_-: mode power at the top of the barrier."""
    side: Array
    """W_+: mode power at the side minimum, the droplet."""


class ClosedForm(NamedTuple):
    """The transition in the limit P -> infinity at fixed gamma."""

    noise_start: float
    """sigma_I^2: noise at which the side minimum becomes degenerate with the origin."""
    noise_end: float
    """sigma_II^2: noise at which all modes are droplets; NaN where the mixed phase never ends."""
    power: float
    """W = sqrt(3/gamma): mode power of the droplet during the transition."""
    discrepancy_end: float
    """a at sigma_II^2; NaN where the mixed phase never ends."""
    interaction: float
    """u a^2 = 2 sqrt(gamma/3), constant during the transition."""


class ModeAverages(NamedTuple):
    """Averages over the density of one mode, at given u a^2."""

    product: Array
    """<A B>."""
    power: Array
    """<A> = <B>."""
    side_mass: Array
    """Probability of sqrt(A B) > W_-, the modes that are droplets."""


@dataclass(frozen=True)
class Branch:
    """One solution of the self-consistency for every noise; NaN where it does not exist."""

    noise: Array
    discrepancy: Array
    """a, between -1 (nothing learned) and 0."""
    interaction: Array
    """u a^2."""
    eigenvalue: Array
    """lambda of the closure, on the target."""
    side_mass: Array
    """Fraction of modes that are droplets."""
    saddles: Saddles
    side_action: Array
    """S_k at the side minimum relative to the origin; negative once it is preferred."""
    barrier_action: Array
    """S_k at the top of the barrier relative to the origin."""
    closure: Closure
    average: str


class Boundaries(NamedTuple):
    """Noise at which the droplet fraction crosses the threshold, and one minus it."""

    noise_start: float
    noise_end: float


class DropletBudget(NamedTuple):
    """Whether the mean-field picture has droplets enough to average over."""

    per_frequency: Array
    """Expected number of neurons that are droplets of one given frequency: N times side mass."""
    holds: NDArray[np.bool_]
    """Whether at least one droplet is expected for every frequency."""


def effective_interaction(parameters: ModularAddition, noise: ArrayLike) -> Array:
    """u = 2 sigma_a^2 P^2/(N sigma^4)."""
    p = parameters
    return np.asarray(
        2 * p.readout_variance * p.prime**2 / (p.width * np.asarray(noise, float) ** 2)
    )


def mode_action(
    first_power: ArrayLike,
    second_power: ArrayLike,
    interaction: ArrayLike,
    prime: int,
    decay: float,
) -> Array:
    """Action S_k(A, B) of one Fourier mode; the density of a mode pair is exp(-2 S_k) dA dB.

    Parameters
    ----------
    first_power, second_power
        A = |w_k|^2 and B = |v_k|^2.
    interaction
        u a^2.
    prime, decay
        P and gamma.
    """
    a, b = np.asarray(first_power, float), np.asarray(second_power, float)
    coupling = np.asarray(interaction, float) * a * b
    return np.asarray(prime * ((a + b) / 2 - coupling + decay / 6 * (a**3 + b**3)))


def saddles(interaction: ArrayLike, decay: float) -> Saddles:
    """Saddles A = B = W_-+ = (u a^2 -+ sqrt(u^2 a^4 - gamma))/gamma; NaN below the spinodal."""
    strength = np.asarray(interaction, float)
    spinodal = np.sqrt(decay)
    square = (strength - spinodal) * (strength + spinodal)
    root = np.sqrt(np.where(square >= 0, square, np.nan))
    side = (strength + root) / decay
    return Saddles(barrier=1 / (decay * side), side=side)


def eigenvalue_scale(parameters: ModularAddition, closure: Closure) -> float:
    """lambda/<A B>: sigma_a^2 as published, 4 P^2 sigma_a^2 corrected."""
    if closure == "as_published":
        return parameters.readout_variance
    if closure == "corrected":
        return 4 * parameters.prime**2 * parameters.readout_variance
    raise ValueError(f"unknown closure {closure!r}: use one of {', '.join(CLOSURES)}")


def closed_form(parameters: ModularAddition, closure: Closure) -> ClosedForm:
    """Start and end of the mixed phase, W and a, in the limit P -> infinity.

    sigma_I^2 = [sigma_a^2 P^2 sqrt(3)/(N sqrt(gamma))]^{1/2} for both closures, and the phase ends
    at sigma_I^2 - lambda_max with lambda_max = 3 sigma_a^2/gamma as published and
    12 sigma_a^2 P^2/gamma corrected; in between a = -sigma^2/sigma_I^2. The corrected closure has a
    GMFL-II phase only for N sigma_a^2 P^2 < sqrt(3) gamma^{3/2}/144.
    """
    p = parameters
    start = np.sqrt(
        p.readout_variance * p.prime**2 * np.sqrt(3) / (p.width * np.sqrt(p.sextic_decay))
    )
    end = start - eigenvalue_scale(p, closure) * 3 / p.sextic_decay
    end = end if end > 0 else np.nan
    return ClosedForm(
        noise_start=float(start),
        noise_end=float(end),
        power=float(np.sqrt(3 / p.sextic_decay)),
        discrepancy_end=float(-end / start),
        interaction=float(2 * np.sqrt(p.sextic_decay / 3)),
    )


def closed_form_discrepancy(
    parameters: ModularAddition, noise: ArrayLike, closure: Closure
) -> Array:
    """a(sigma^2) in the limit P -> infinity; below sigma_II^2 all modes are droplets."""
    noise = np.asarray(noise, float)
    form = closed_form(parameters, closure)
    mixed = -noise / form.noise_start
    if np.isfinite(form.noise_end):
        below = branch(parameters, noise, closure, droplet_fraction=1.0).discrepancy
        mixed = np.where(noise < form.noise_end, below, mixed)
    return np.asarray(np.where(noise >= form.noise_start, -1.0, mixed))


def mode_averages(
    interaction: ArrayLike, prime: int, decay: float, average: Average = "quadrature"
) -> ModeAverages:
    """Averages of one mode at given u a^2, vectorised over it.

    ``quadrature`` integrates exp(-2 S_k) on Gauss-Legendre panels that resolve both the origin
    (width sqrt(gamma)/P in A) and the side minimum, to a relative error below 1e-10, or to the
    rounding of exponents as large as P g^3/sqrt(gamma) with g = u a^2/sqrt(gamma): 1e-8 at P = 401,
    gamma = 1, g = 40. ``two_point`` is the published formula, with weight 4 e^{-S} for the side
    minimum and power zero at the origin.
    """
    strength = np.asarray(interaction, float)
    beta, scale = prime / np.sqrt(decay), np.sqrt(decay)
    flat = np.atleast_1d(strength / scale).ravel()
    if average == "two_point":
        side = saddles(flat * scale, decay).side
        action = mode_action(side, side, flat * scale, prime, decay)
        mass = np.where(np.isfinite(side), 1 / (1 + np.exp(np.minimum(action, 700.0)) / 4), 0.0)
        product = mass * np.nan_to_num(side) ** 2
        columns = np.stack([product, mass * np.nan_to_num(side), mass])
    elif average == "quadrature":
        columns = np.stack([_integrate(float(g), float(beta)) for g in flat], axis=1)
        columns = columns / np.array([[decay], [scale], [1.0]])
    else:
        raise ValueError(f"unknown average {average!r}: use one of {', '.join(AVERAGES)}")
    return ModeAverages(*(np.asarray(c.reshape(strength.shape)) for c in columns))


def counted_mass(interaction: ArrayLike, parameters: ModularAddition) -> Array:
    """Probability of sqrt(A B) > W/3, the modes that are counted as droplets in networks.

    Of the shape of u a^2; nan where that is. W/3 is the barrier of the mixed phase in the limit
    P -> infinity; the saddle W_- moves with the noise, and is none without a side minimum.
    """
    strength = np.asarray(interaction, float)
    beta, scale = parameters.prime / np.sqrt(parameters.sextic_decay), parameters.sextic_decay**0.5

    def one(g: float) -> float:
        edge = _panels(g, beta)
        _, density, peak = _density(g, beta, edge)
        beyond = _beyond(g, beta, 1 / math.sqrt(3), edge, peak)
        return min(beyond / float(density.sum()), 1.0)

    flat = strength.ravel() / scale
    mass = [one(float(g)) if np.isfinite(g) else np.nan for g in flat]
    return np.reshape(np.array(mass, float), strength.shape)


def branch(
    parameters: ModularAddition,
    noise: ArrayLike,
    closure: Closure,
    average: Average = "two_point",
    droplet_fraction: float | None = None,
) -> Branch:
    """Solve a = -sigma^2/(lambda + sigma^2) at every noise.

    Parameters
    ----------
    noise
        sigma^2, any shape; ``parameters.noise`` is not used.
    closure, average
        The eigenvalue and the average, see the module.
    droplet_fraction
        None for equilibrium. Otherwise this fraction of the modes is held at the side minimum W_+
        and the others at A = B = 0: the metastable branch of a start with that many droplets. It
        exists up to its own spinodal, beyond which the entries are NaN; 0 is the branch of a prior
        start, on which a = -1.

    Notes
    -----
    The equation is solved for g = u a^2/sqrt(gamma), in which it is monotone (see the module), so
    the solution is the only one. The two-point average jumps at the spinodal g = 1; a noise inside
    that jump has no solution, and its entries are NaN.
    """
    noise = np.asarray(noise, float)
    if not np.all(np.isfinite(noise) & (noise > 0)):
        raise ValueError("noise must be positive and finite")
    if droplet_fraction is not None and not 0 <= droplet_fraction <= 1:
        raise ValueError(f"droplet_fraction={droplet_fraction}: must lie in [0, 1]")
    decay = parameters.sextic_decay
    root_decay = np.sqrt(decay)

    def excess(log_g: Array, target: Array) -> Array:
        value = _noise_of(np.exp(log_g), parameters, closure, average, droplet_fraction)
        return value / target - 1

    target = np.atleast_1d(noise).ravel()
    # lambda >= 0 bounds 1/kappa below by the noise, so g is at most its value at a = -1; lambda is
    # at most its value there, which bounds 1/kappa above and g below.
    upper = np.log(effective_interaction(parameters, target) / root_decay)
    if droplet_fraction is None:
        largest = target * excess(upper, target)
        lower = upper + 2 * np.log(target / (target + np.maximum(-largest, 0.0))) - 1e-9
    else:
        lower = np.zeros_like(upper) if droplet_fraction else upper - 1e-9
    upper = np.maximum(upper, lower) + 1e-9
    result = elementwise.find_root(
        excess,
        (lower, upper),
        args=(target,),
        tolerances={"xatol": 1e-16, "xrtol": 0, "fatol": 1e-13, "frtol": 0},
    )
    good = np.isfinite(result.x) & (np.abs(result.f_x) < 1e-6)
    g = np.where(good, np.exp(result.x), np.nan).reshape(noise.shape)
    interaction = g * root_decay
    discrepancy = -np.sqrt(interaction / effective_interaction(parameters, noise))
    discrepancy = np.maximum(discrepancy, -1.0)
    if droplet_fraction is None:
        mass = mode_averages(np.nan_to_num(interaction), parameters.prime, decay, average).side_mass
    else:
        mass = np.full(noise.shape, float(droplet_fraction))
    points = saddles(interaction, decay)
    prime = parameters.prime
    return Branch(
        noise=noise,
        discrepancy=discrepancy,
        interaction=interaction,
        eigenvalue=noise * (-1 / discrepancy - 1),
        side_mass=np.where(np.isfinite(g), mass, np.nan),
        saddles=points,
        side_action=mode_action(points.side, points.side, interaction, prime, decay),
        barrier_action=mode_action(points.barrier, points.barrier, interaction, prime, decay),
        closure=closure,
        average=average if droplet_fraction is None else f"droplet_fraction={droplet_fraction:g}",
    )


def boundaries(
    parameters: ModularAddition,
    closure: Closure,
    average: Average = "quadrature",
    threshold: float = 0.01,
) -> Boundaries:
    """Noise where the side mass is the threshold and one minus it; NaN for a phase never reached.

    Where the barrier is so low that the side mass jumps past the threshold at the spinodal, the
    start is the noise of the jump.
    """
    decay, prime = parameters.sextic_decay, parameters.prime

    def mass(log_g: Array, target: Array) -> Array:
        averages = mode_averages(np.exp(log_g) * np.sqrt(decay), prime, decay, average)
        return np.log(averages.side_mass + 1e-300) - np.log(target)

    targets = np.array([threshold, 1 - threshold])
    # Beyond the degenerate point g = 2/sqrt 3 the side minimum gains over 6 (g - 2/sqrt 3) beta.
    highest = np.log(2 / np.sqrt(3) + 10 * np.sqrt(decay) / prime)
    result = elementwise.find_root(mass, (np.zeros(2), np.full(2, highest)), args=(targets,))
    spinodal = mode_averages(np.sqrt(decay) * (1 + 1e-12), prime, decay, average).side_mass
    g = np.where(targets <= spinodal, 1.0, np.exp(result.x))
    noise = _noise_of(g, parameters, closure, average, None)
    return Boundaries(*(float(v) if v > 0 else float("nan") for v in noise))


def droplet_budget(parameters: ModularAddition, solution: Branch) -> DropletBudget:
    """Count the droplets that a solution implies.

    The mean-field average over neurons needs at least one droplet for each frequency. Where fewer
    are expected the theory contradicts itself: one whole droplet already has
    lambda = 4 P^2 sigma_a^2 W^2/N far above the noise, and its assumed gain 2 P u a^2 W^2 exceeds
    P/sigma^2, which is all the likelihood its frequency holds.
    """
    per_frequency = parameters.width * solution.side_mass
    return DropletBudget(per_frequency, per_frequency >= 1)


def diagonal_action(
    parameters: ModularAddition, root_power: ArrayLike, noise: ArrayLike, solution: Branch
) -> Array:
    """S along A = B against sqrt(A), one row per noise: the curves of the figure.

    Parameters
    ----------
    root_power
        sqrt(A), shape [m].
    noise
        sigma^2, shape [k]; must equal ``solution.noise``.

    Returns
    -------
    Array of shape [k, m].
    """
    if not np.array_equal(np.asarray(noise, float), solution.noise):
        raise ValueError("noise and solution.noise differ: solve the branch on the same noise")
    power = np.asarray(root_power, float)[None, :] ** 2
    strength = np.atleast_1d(solution.interaction)[:, None]
    return mode_action(power, power, strength, parameters.prime, parameters.sextic_decay)


def root_power_mass(interaction: float, parameters: ModularAddition, edges: Array) -> Array:
    """Probability that (sqrt A, sqrt B) of a mode lies in each bin, at given u a^2.

    Parameters
    ----------
    edges
        Edges of the bins of sqrt(A), and of those of sqrt(B), shape [k + 1], from zero.

    Returns
    -------
    Array of shape [k, k]. It sums to less than one by what lies beyond the last edge.
    """
    beta, scale = parameters.prime / np.sqrt(parameters.sextic_decay), parameters.sextic_decay**0.5
    of_bins = scale * np.asarray(edges, float) ** 2
    panels = np.unique(np.concatenate([_panels(interaction / scale, beta), of_bins]))
    x, density, _ = _density(interaction / scale, beta, panels)
    # Panels end at the edges of the bins, so that every node lies in one of them, or beyond all.
    within = (of_bins[:-1, None] < x) & (x < of_bins[1:, None])
    return np.asarray(within @ density @ within.T / density.sum())


def _noise_of(
    g: Array,
    parameters: ModularAddition,
    closure: Closure,
    average: Average,
    droplet_fraction: float | None,
) -> Array:
    """sigma^2(g) = 1/kappa - lambda: the noise at which g solves the self-consistency."""
    p = parameters
    interaction = g * np.sqrt(p.sextic_decay)
    kappa = np.sqrt(interaction * p.width / (2 * p.readout_variance * p.prime**2))
    if droplet_fraction is None:
        product = _mean_product(interaction, p.prime, p.sextic_decay, average)
    else:
        # Rounding may put g a hair below 1; elsewhere below it there is no side minimum.
        safe = np.maximum(interaction, np.sqrt(p.sextic_decay))
        product = droplet_fraction * saddles(safe, p.sextic_decay).side ** 2
    return np.asarray(1 / kappa - eigenvalue_scale(p, closure) * product)


def _mean_product(interaction: Array, prime: int, decay: float, average: Average) -> Array:
    """<A B> alone, without the mass, which takes a third of the time of `mode_averages`."""
    if average == "two_point":
        return mode_averages(interaction, prime, decay, average).product
    beta = prime / math.sqrt(decay)

    def one(g: float) -> float:
        x, density, _ = _density(g, beta, _panels(g, beta))
        return float(x @ (density @ x) / density.sum())

    flat = interaction.ravel() / math.sqrt(decay)
    return np.reshape([one(float(g)) / decay for g in flat], interaction.shape)


_NODES, _WEIGHTS = leggauss(10)


def _integrate(g: float, beta: float) -> Array:
    """<x y>, <x> and the mass of sqrt(x y) > x_-, density exp(-2 S) in x, y."""
    edge = _panels(g, beta)
    x, density, peak = _density(g, beta, edge)
    rows = density.sum(axis=1)
    total = rows.sum()
    beyond = 0.0
    if g >= 1:
        # A grid in x and y would cut its panels along x y = x_-^2: use panels of their own.
        beyond = _beyond(g, beta, 1 / _side(g), edge, peak)
    return np.array([x @ (density @ x) / total, rows @ x / total, min(beyond / total, 1.0)])


def _side(g: float) -> float:
    """x = y of the side minimum; 1, where it appears, below its spinodal."""
    return g + np.sqrt(g * g - 1) if g >= 1 else 1.0


def _panels(g: float, beta: float) -> Array:
    """Edges of panels that resolve the origin and the side minimum, from zero to where nothing is
    left."""
    side = _side(g)
    top = side + 8.0 / np.sqrt(beta) + 12.0 / beta + 2.0 / beta ** (1 / 3)
    width = 1 / np.sqrt(2 * beta * max(side, 1.0))
    edges = [
        np.concatenate([[0.0], np.geomspace(0.1 / beta, top, 16)]),
        side + width * np.arange(-10.0, 10.5, 2.0),
    ]
    edge = np.unique(np.clip(np.concatenate(edges), 0.0, top))
    return edge[np.concatenate([[True], np.diff(edge) > 1e-14 * top])]


def _density(g: float, beta: float, edge: Array) -> tuple[Array, Array, float]:
    """Nodes x [m] of Gauss-Legendre panels with these edges, masses exp(-2 S - shift) of pairs of
    them [m, m], the quadrature's weights included, and the shift."""
    half = np.diff(edge)[:, None] / 2
    x = (edge[:-1, None] + half + half * _NODES).ravel()
    weight = (half * _WEIGHTS).ravel()
    single = -beta * (x + x**3 / 3) + np.log(weight)
    # In place: the passes over new arrays would take half of the time.
    density = np.outer(x, (2 * beta * g) * x)
    density += single[:, None]
    density += single
    peak = float(density.max())
    density -= peak
    np.exp(density, out=density)
    return x, density, peak


def _beyond(g: float, beta: float, barrier: float, edge: Array, shift: float) -> float:
    """Integral of exp(exponent - shift) over sqrt(x y) > barrier."""
    # x = t e^s, y = t e^{-s}: dx dy = 2 t dt ds, and the exponent is even in s.
    top = float(edge[-1])
    last = max(top, barrier * 1.01)
    t_edge = np.unique(np.concatenate([[barrier], edge[edge > barrier], [last]]))
    if t_edge.size < 20:
        t_edge = np.unique(np.concatenate([t_edge, np.linspace(barrier, t_edge[-1], 20)]))
    half = np.diff(t_edge)[:, None] / 2
    t = (t_edge[:-1, None] + half + half * _NODES).ravel()
    t_weight = (half * _WEIGHTS).ravel()
    # What s costs, 2 beta {t (cosh s - 1) + t^3 (cosh 3s - 1)/3}: at every t up to 45 nats of it.
    reach = np.minimum(
        np.arccosh(1 + 45.0 / (2 * beta * t)), np.arccosh(1 + 135.0 / (2 * beta * t**3)) / 3
    )
    share_edge = np.linspace(0, 1, 7)
    share_half = np.diff(share_edge)[:, None] / 2
    share = (share_edge[:-1, None] + share_half + share_half * _NODES).ravel()
    share_weight = 2 * (share_half * _WEIGHTS).ravel()
    cosh = np.cosh(np.outer(reach, share))
    density = (-2 * beta * t)[:, None] * cosh
    density -= (2 * beta / 3 * t**3)[:, None] * (4 * cosh**3 - 3 * cosh)
    density += (2 * beta * g * t**2 - shift)[:, None]
    np.exp(density, out=density)
    return float((2 * t * t_weight * reach) @ (density @ share_weight))
