"""The posterior that all samplers share: the paper's network, or a smaller one of its family.

Every library gets the log density -Phi(theta) - |theta|^2/2 in whitened coordinates as a function
that JAX differentiates, in one of two forms: written plainly, or with this project's fused
gradient as its derivative. The faster one is used for all of them, so that differences are those
of the algorithms and not of the gradient.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from grokphase.datasets import generate_dataset
from grokphase.models import teacher_student as model
from grokphase.models.teacher_student import Data, Position
from grokphase.parameters import TeacherStudent
from grokphase.sampling import tree
from grokphase.sampling.kernels import State, hamiltonian
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import PlantedStart
from grokphase.tables.observables import OBSERVABLES

JUDGED = ("linear_overlap", "cubic_overlap", "mean_square_overlap", "droplet_fraction")
COLUMNS = tuple(OBSERVABLES["teacher_student"].index(name) for name in JUDGED)

LogDensity = Callable[[Position], jax.Array]


class Problem(NamedTuple):
    """Parameters, training set, and the log densities a library is given.

    whitened, original : log density (up to a constant) of whitened and of original coordinates,
        differentiable by JAX.
    milliseconds : time of value and gradient of both forms, "plain" and "fused".
    gradient : the form that is used, the faster one.
    """

    parameters: TeacherStudent
    data: Data
    whitened: LogDensity
    original: LogDensity
    milliseconds: dict[str, float]
    gradient: str


def paper(noise: float, beta: float) -> TeacherStudent:
    """The paper's scaling family, its own network at beta = 1, at a noise of its own."""
    return TeacherStudent(
        input_dim=round(150 * math.sqrt(beta)),
        width=round(700 * beta),
        train_size=round(3000 * beta),
        weight_variance=0.5,
        readout_variance=8 / 700 / math.sqrt(beta),
        noise=noise,
        cubic_strength=-0.3,
    )


def isotropic_step(parameters: TeacherStudent, share: float) -> float:
    """Step of isotropic Langevin dynamics, as a share of 2.5e-5 beta^(-3/2).

    The readouts of all neurons move the linear part of the output together: the stiffness of the
    loss grows as n N/d.
    """

    def stiffness(of: TeacherStudent) -> float:
        return of.train_size * of.width / of.input_dim

    whole = 2.5e-5 * stiffness(paper(parameters.noise, 1.0)) / stiffness(parameters)
    return float(f"{share * whole:.3g}")


def problem(noise: float, beta: float) -> Problem:
    """The posterior at one noise, on a dataset that every noise shares."""
    parameters = paper(noise, beta)
    data = model.load_data(
        parameters,
        generate_dataset(
            DatasetSpecification(
                experiment="benchmark",
                seed=0,
                dataset=0,
                input_dim=parameters.input_dim,
                train_size=parameters.train_size,
            )
        ),
    )
    forms = {"plain": plain(parameters, data), "fused": fused(parameters, data)}
    position = model.start(jax.random.key(0), "prior", parameters, data, PlantedStart())
    milliseconds = gradient_milliseconds(forms, position)
    fastest = min(milliseconds, key=lambda name: milliseconds[name])
    log_density, scale = forms[fastest], model.prior_scale(parameters)

    def original(weights: Position) -> jax.Array:
        return log_density(jax.tree.map(lambda x, s: x / s, weights, scale))

    return Problem(parameters, data, log_density, original, milliseconds, fastest)


def plain(parameters: TeacherStudent, data: Data) -> LogDensity:
    """The log density as one would write it."""

    def log_density(position: Position) -> jax.Array:
        readout, weights = model.original_weights(position, parameters)
        output = jax.scipy.special.erf(data.inputs @ weights.T) @ readout
        loss = 0.5 * jnp.sum(jnp.square(output - data.targets))
        return -loss / data.noise - 0.5 * tree.inner(position, position)

    return log_density


def fused(parameters: TeacherStudent, data: Data) -> LogDensity:
    """The same with the gradient of `grokphase.models.teacher_student.target`."""
    target = model.target(parameters, data)

    @jax.custom_vjp
    def log_density(position: Position) -> jax.Array:
        return forward(position)[0]

    def forward(position: Position) -> tuple[jax.Array, Position]:
        potential, gradient = target.potential_and_gradient(position)
        value = -potential - 0.5 * tree.inner(position, position)
        return value, jax.tree.map(lambda g, x: -g - x, gradient, position)

    def backward(gradient: Position, cotangent: jax.Array) -> tuple[Position]:
        return (jax.tree.map(lambda g: cotangent * g, gradient),)

    log_density.defvjp(forward, backward)
    return log_density


def gradient_milliseconds(
    forms: dict[str, LogDensity], position: Position, repeat: int = 50, rounds: int = 9
) -> dict[str, float]:
    """Median time of a value with its gradient, by form, in compiled loops that take turns."""

    def program(log_density: LogDensity) -> Callable[[Position], Position]:
        def move(_: int, position: Position) -> Position:
            value, gradient = jax.value_and_grad(log_density)(position)
            return jax.tree.map(lambda x, g: x + 1e-9 * (g + value), position, gradient)

        return jax.jit(lambda x: jax.lax.fori_loop(0, repeat, move, x))

    programs = {name: program(form) for name, form in forms.items()}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for round_number in range(rounds + 1):
        for name, run in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(run(position))
            if round_number:  # The first one compiles.
                seconds[name].append(time.perf_counter() - started)
    return {name: 1e3 * float(np.median(values)) / repeat for name, values in seconds.items()}


def observe(problem: Problem, position: Position) -> jax.Array:
    """The observables [4] of JUDGED, closed form, at a whitened position."""
    potential = jnp.zeros(())  # None of the four depends on it.
    return jnp.stack(
        [
            model.observables(position, potential, problem.parameters, problem.data)[column]
            for column in COLUMNS
        ]
    )


def variates(problem: Problem, state: State) -> jax.Array:
    """The Stein variates [7] of a state."""
    return model.stein_variates(state, problem.parameters, problem.data)


def starts(problem: Problem, count: int, steps: int = 100) -> list[Position]:
    """Positions of `count` chains, from the prior and from planted droplets in turn.

    All are taken to typical energies by unadjusted Hamiltonian steps, which leave the droplets
    where they are: a chain that cannot move them keeps what it was started with.
    """
    settings = hamiltonian.Settings(step_size=0.25, leapfrog_steps=7, metropolis=False)
    kernel = hamiltonian.build(model.target(problem.parameters, problem.data), settings)

    @jax.jit
    def settle(key: jax.Array, position: Position) -> Position:
        state, _ = jax.lax.scan(
            lambda state, k: (kernel.step(k, state)[0], None),
            kernel.init(position),
            jax.random.split(key, steps),
        )
        return state.position

    found = []
    for chain in range(count):
        start_key, settle_key = jax.random.split(jax.random.fold_in(jax.random.key(1), chain))
        kind = ("prior", "planted")[chain % 2]
        position = model.start(
            start_key, kind, problem.parameters, problem.data, PlantedStart(fraction=0.05)
        )
        found.append(settle(settle_key, position))
    return found
