"""Time and memory of jobs as functions of the size of the problem, from measurements.

The constants are those of one core with 512-bit vectors and products in bfloat16 (AMD Zen 4, one
product of matrices at 95 Gflop/s), both cores of the machine at work: benchmarks/components.py
measures the parts of a job, benchmarks/resources.py whole jobs. `grokphase.machine` measures how
much slower another machine is. Read while the workflow is planned: it imports nothing heavy.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from grokphase.models.mode_sweep_cost import inversion_operations, sweep_cost
from grokphase.models.modular_cost import collapsed_cost, gradient_cost
from grokphase.models.neuron_sweep_cost import evaluations_per_density, evaluations_per_sweep
from grokphase.models.umbrella_cost import (
    PARTICLES,
    PROFILE_NODES,
    PROFILES_COMPARED,
    ROTATIONS,
    work_per_profile,
)
from grokphase.parameters import ModularAddition, TeacherStudent
from grokphase.processor import multiplies_bfloat16
from grokphase.sampling import kernels
from grokphase.specifications.training import EXPECTED_EVERY, TrainingSpecification

MEMORY_MARGIN = 1.35
"""Memory asked for over memory expected."""

TIME_MARGIN = 1.4
"""Time asked for over time expected on a machine as fast as the one that submits. A job on a node
that is slower still continues from its checkpoint in the next attempt, which asks for more."""

START_MINUTES = 0.5
"""Time asked for beside that: Snakemake's start on the node, and storage that is slow to answer."""

FEWEST_MINUTES = 2
"""The least that is asked for: a job that ends before its first checkpoint has to begin again."""

SNAKEMAKE_MEMORY = 160.0
"""MiB for Snakemake beside a job on a cluster, where it runs twice, in the batch step and in the
job step. Resident memory of the smallest training job alone, with pages that processes share
counted more than once, was up to 540 MiB in the job step and 720 MiB in both; it asks for 797."""

TRAINING_START = 1.1
"""Seconds until a training job draws whose programs an earlier one has compiled."""

COMPILATION = 2.5
"""Seconds that the first job of an experiment takes longer."""

COMPILATION_OF_SWEEPS = 3.0
"""Seconds of this for sweeps over the neurons, and what comes with them."""

COMPILATION_FOR_LONG_WORK = 1.6
"""How many times as long that takes where networks take long and compilation is thorough; see
grokphase.sampling.ensemble.compiler_options."""

SHORT_SECONDS = 1.45
"""Seconds, about, up to which the networks of a dataset do not."""

TRAINING_MEMORY = 430.0
"""MiB of a training job with the smallest networks, between what it takes with programs compiled
before and, up to 350 more, while it compiles them."""

ARRAYS_HELD = 2.3
"""Arrays [N, n] that a job of the teacher-student model holds: 395, 530 and 680 MiB resident with
N = 50, 2000 and 4000 at n = 8000. Blocks of an exact gradient hold none; starting readouts, sweeps
and the potential at the end of approximate trajectories do."""

SECONDS_PER_ACTIVATION = 3.0e-10
"""Processor time of one activation of a sweep over the neurons."""

SECONDS_PER_NEURON = 5e-6
"""Processor time of a visit of such a sweep beside its activations."""

SECONDS_PER_DENSITY_ACTIVATION = 6.5e-10
"""Processor time of one activation of the densities of all neurons."""

SECONDS_PER_DENSITY = 1e-5
"""Processor time of the density of a neuron beside its activations."""

SECONDS_PER_PROFILE_WORK = 2.2e-11
"""Processor time of a multiply-add of a profile of the overlap."""

SECONDS_PER_PROFILE_ACTIVATION = 2.4e-9
"""Processor time of an activation of such a profile and of its derivative."""

BFLOAT16_SHARE = 0.53
"""Time of a gradient with products in bfloat16 over that of one in float32, on a processor that has
such products: 0.58, 0.51, 0.57, 0.61 and 0.48 at d = 50, 80, 100, 150, 200 on Zen 4."""

POTENTIAL_SHARE = 0.5
"""Time of the potential alone over that of a gradient in float32."""

OPERATIONS_PER_SECOND = 2.5e10
"""Speed at which gradients of modular addition are computed."""

COLLAPSED_OPERATIONS_PER_SECOND = 6.5e10
"""The same with the readouts integrated out, which is nearly all matrix products."""

SECONDS_PER_MODE = 1.3e-5
"""Processor time of a mode in a sweep over Fourier modes beside its operations."""

SWEEP_OPERATIONS_PER_SECOND = 2.6e10
"""Speed of those (both at P = 5 to 31, N = 125 to 800)."""

INVERSION_OPERATIONS_PER_SECOND = 6.5e10
"""Speed of the inversion at the beginning of such a sweep, whose matrices are large."""

SECONDS = {
    "dataset": 0.35,
    "aggregate": 0.5,
    "summary": 0.7,
    "theory": 1.1,
    "baseline": 1.0,
    "figure": 2.3,
}
"""Processor time of the jobs of the other stages; summaries and figures judge points beside."""

JUDGING_START = 0.7
"""Processor time that a job which judges points takes to import the library of diagnostics."""

SECONDS_PER_POINT_JUDGED = 0.04
"""Processor time of judging a point with short chains, of seven observables."""

SECONDS_PER_DRAW_JUDGED = 1e-5
"""The same for a draw that is kept of a network: 0.33 s for 20 networks of 1000 draws and 1.3 s for
as many of 4096 on a machine of slowness 1.6."""

JUDGING_MEMORY = 60.0
"""MiB of the library of diagnostics."""

BYTES_PER_DRAW_JUDGED = 600
"""Memory for the same: 220 MiB with short chains, 310 with 20 networks of 4096 draws and 770 with
200."""


class Slowness(NamedTuple):
    """Time on a core of a machine over that on the reference: of what training computes, and of
    `start`, imports and compilation."""

    work: float = 1.0
    start: float = 1.0


class Resources(NamedTuple):
    """What a job needs: `seconds` of processor time on one core, `memory` in MiB."""

    seconds: float
    memory: float


def training(specification: TrainingSpecification, datasets: int) -> Resources:
    """Resources of training the networks of one point on so many datasets."""
    parameters = specification.parameters
    settings = kernels.settings(specification.kernel)
    networks = len(specification.networks.starts())
    profiles, compared = 0.0, 0.0
    if specification.umbrella is not None:
        windows = len(specification.umbrella.overlaps)
        profiles = specification.draws + windows * specification.umbrella.draws
        compared = PROFILES_COMPARED
    seconds, memory = gradient(parameters)
    gradients = settings.gradients(specification.unadjusted_steps / specification.steps_in_all)
    gradients += specification.neuron_sweeps > 0
    approximate = False
    of_step = gradients * seconds
    if isinstance(parameters, TeacherStudent):
        approximate = settings.approximate_forces and multiplies_bfloat16()
        of_step *= BFLOAT16_SHARE if approximate else 1.0
        of_step += potential(parameters) if approximate or specification.neuron_sweeps else 0.0
    if isinstance(parameters, ModularAddition) and specification.collapsed_readout:
        collapsed = collapsed_gradient(parameters)
        of_step = seconds + (gradients + 2) * collapsed.seconds
        memory = max(memory, collapsed.memory)
    of_job, of_network = TRAINING_START, specification.steps_in_all * of_step
    if specification.neuron_sweeps:
        of_sweep = sweep(parameters)
        of_network += specification.sweeps_in_all * of_sweep.seconds
        memory += of_sweep.memory
    if isinstance(parameters, TeacherStudent):
        densities = 0
        if specification.neuron_sweeps:
            densities = math.ceil(specification.draws / EXPECTED_EVERY)
        of_network += densities * density(parameters) + profiles * profile(parameters)
        of_job += compared * profile(parameters)
        if approximate:
            of_network += specification.draws * seconds
    return Resources(of_job + datasets * networks * of_network, TRAINING_MEMORY + memory)


def gradient(parameters: TeacherStudent | ModularAddition) -> Resources:
    """Resources of one gradient of one network."""
    if isinstance(parameters, TeacherStudent):
        n, width, d = parameters.train_size, parameters.width, parameters.input_dim
        seconds = 4e-5 + 4 * n * width * d / 9.7e10 + n * width / 8e8
        floats = ARRAYS_HELD * n * width + 2 * n * d
        return Resources(seconds, floats * 4 / 2**20)
    cost = gradient_cost(parameters, "auto" if parameters.train_fraction == 1 else "dense")
    return Resources(
        1.2e-4 + cost.operations / OPERATIONS_PER_SECOND, 45 + 1.5 * cost.bytes / 2**20
    )


def potential(parameters: TeacherStudent) -> float:
    """Processor time of the potential alone, or of the forward pass that sweeps begin with."""
    return POTENTIAL_SHARE * gradient(parameters).seconds


def collapsed_gradient(parameters: ModularAddition) -> Resources:
    """Resources of one gradient of modular addition with the readouts integrated out."""
    cost = collapsed_cost(parameters)
    seconds = 3e-4 + cost.operations / COLLAPSED_OPERATIONS_PER_SECOND
    return Resources(seconds, cost.bytes / 2**20)


def sweep(parameters: TeacherStudent | ModularAddition) -> Resources:
    """Resources of one sweep over the neurons of one network, beside those of a gradient and of the
    potential."""
    if isinstance(parameters, TeacherStudent):
        of_activations = evaluations_per_sweep(parameters) * SECONDS_PER_ACTIVATION
        return Resources(of_activations + parameters.width * SECONDS_PER_NEURON, 0.0)
    cost, inversion = sweep_cost(parameters), inversion_operations(parameters.prime)
    seconds = inversion / INVERSION_OPERATIONS_PER_SECOND
    seconds += (cost.operations - inversion) / SWEEP_OPERATIONS_PER_SECOND
    seconds += parameters.width * (parameters.prime - 1) / 2 * SECONDS_PER_MODE
    return Resources(seconds, cost.bytes / 2**20)


def density(parameters: TeacherStudent) -> float:
    """Processor time of the densities of all neurons of one network."""
    of_activations = evaluations_per_density(parameters) * SECONDS_PER_DENSITY_ACTIVATION
    return of_activations + parameters.width * SECONDS_PER_DENSITY


def profile(parameters: TeacherStudent) -> float:
    """Processor time of one profile of the overlap."""
    # One activation per value and one per force of every copy.
    activations = parameters.train_size * PROFILE_NODES * PARTICLES * (ROTATIONS + 2)
    of_activations = activations * SECONDS_PER_PROFILE_ACTIVATION
    return of_activations + work_per_profile(parameters) * SECONDS_PER_PROFILE_WORK


def baseline(train_size: int) -> Resources:
    """Resources of Gaussian-process regression on one dataset.

    The usual case, with room for noises so small that matrices have to be factorised.
    """
    memory = 150 + 2 * 8 * train_size**2 / 2**20
    seconds = SECONDS["baseline"] + train_size**2 / 1e7 + train_size**3 / 2e10
    return Resources(seconds, memory)


def judging(draws: Sequence[int]) -> Resources:
    """Resources of judging points in one job, of each of which so many draws are kept, of all its
    networks together."""
    if not draws:
        return Resources(0.0, 0.0)
    seconds = JUDGING_START + len(draws) * SECONDS_PER_POINT_JUDGED
    seconds += sum(draws) * SECONDS_PER_DRAW_JUDGED
    return Resources(seconds, JUDGING_MEMORY + max(draws) * BYTES_PER_DRAW_JUDGED / 2**20)


def memory_request(expected: float, attempt: int) -> int:
    """Memory to ask for in MB; half as much again on every further attempt."""
    margin = MEMORY_MARGIN * (1 + 0.5 * (attempt - 1))
    return math.ceil((expected + SNAKEMAKE_MEMORY) * margin)


def compilation(specification: TrainingSpecification) -> float:
    """Seconds that the first job of an experiment takes longer; windows do not count."""
    seconds = COMPILATION + (COMPILATION_OF_SWEEPS if specification.neuron_sweeps else 0.0)
    plain = specification.model_copy(update={"umbrella": None})
    long = training(plain, 1).seconds - TRAINING_START > SHORT_SECONDS
    return seconds * (COMPILATION_FOR_LONG_WORK if long else 1.0)


def on_machine(expected: Resources, slowness: Slowness) -> Resources:
    """Resources of a training job on a machine of this slowness."""
    work = max(0.0, expected.seconds - TRAINING_START)
    seconds = slowness.start * TRAINING_START + slowness.work * work
    return expected._replace(seconds=seconds)


def time_request(expected: float, attempt: int) -> int:
    """Time to ask for in minutes; as much again on every further attempt."""
    minutes = max(FEWEST_MINUTES, expected * TIME_MARGIN / 60 + START_MINUTES)
    return math.ceil(minutes * attempt)
