"""The training stage: networks of one point of a sweep on a range of datasets, to one shard."""

import importlib
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from grokphase.datasets import read_dataset, require_dataset
from grokphase.errors import DivergenceError, GrokphaseError, StoppedError
from grokphase.interruption import interruptible
from grokphase.parameters import ModularAddition
from grokphase.processor import multiplies_bfloat16
from grokphase.progress import Progress
from grokphase.sampling import kernels
from grokphase.sampling.checkpoint import Arrays, Checkpoint, checkpoint_of
from grokphase.sampling.ensemble import Ensemble, Sampler, Schedule, block_size
from grokphase.sampling.programs import Programs
from grokphase.sampling.random_keys import listed, network_keys, stacked
from grokphase.specifications.dataset import DatasetSpecification, PairOrderSpecification
from grokphase.specifications.training import STARTS, TrainingSpecification, Umbrella
from grokphase.storage import write_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES, STEIN_VARIATES
from grokphase.tables.stein_moments import SteinMoments

LARGEST_ENERGY_ERROR = 0.5
"""Last digit of a potential in single precision, in nats, with which accepting and rejecting by it
is allowed. Errors of potentials, against double precision, fluctuate by 0.4 of it from one position
to the next (modular addition at P=17, N=500: by 0.05 nats at a million), and so hardly ever decide
whether a proposal is accepted."""

ACCELERATOR_SPEED = 100.0
"""Work of an accelerator over that of one core of a CPU in the time of a block of draws."""

_log = logging.getLogger(__name__)


def train(
    specification: TrainingSpecification,
    dataset_files: dict[int, Path],
    output: Path,
    checkpoint_folder: Path,
    code_digest: str,
    checkpoint_seconds: float = 30.0,
    program_folder: Path | None = None,
) -> None:
    """Train every network on the given datasets (index -> file) and write one shard.

    An interrupted run continues from its checkpoint in `checkpoint_folder`, and its shard is byte
    for byte that of an uninterrupted one. The last checkpoint, with every dataset finished, stays:
    the same job run again writes its shard from it. Compiled programs are kept in `program_folder`
    if it is given. Raises GrokphaseError for a dataset of other parameters and for dynamics that
    diverge, StoppedError after SIGTERM, SIGUSR1 or SIGINT, once the state is saved.
    """
    _configure_arithmetic()
    model = importlib.import_module(f"grokphase.models.{specification.model}")
    groups = datasets_together(specification, sorted(dataset_files))
    sampler = _sampler(specification, model, len(groups[0]), program_folder)
    total = sampler.schedule.total
    identity = {
        "specification": specification.model_dump(mode="json"),
        "datasets": sorted(dataset_files),
        "code": code_digest,
        "arithmetic": _arithmetic(len(groups[0])),
    }
    checkpoint = checkpoint_of(checkpoint_folder, identity)
    restored = checkpoint.load() or {}
    finished = _unpack_finished(restored)
    for dataset in sorted(dataset_files.keys() - finished.keys()):
        require_dataset(dataset_files[dataset])
    with interruptible() as interrupted:
        if restored:
            done = total * len(finished) + int(restored.get("current/done", 0)) * len(groups[0])
            _log.info(f"continuing after {done} of {total * len(dataset_files)} draws")
        keeper = _Keeper(
            checkpoint, checkpoint_seconds, interrupted, finished, total, len(dataset_files)
        )
        for group in groups:
            if group[0] not in finished:
                files = {dataset: dataset_files[dataset] for dataset in group}
                finished |= _train_group(specification, model, sampler, files, restored, keeper)
        keeper.close()
        if memory := (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"):
            _log.info(f"{memory / 2**20:.0f} MiB of the accelerator were used at most")
        # A signal that comes now finds little left to do, which is done.
        if restored.keys() != _pack_finished(finished).keys():
            checkpoint.save_last(_pack_finished(finished))
        table = _table(finished, specification.networks.starts(), specification.model)
        write_table(output, table, identity)


def _configure_arithmetic() -> None:
    """What decides the bits of a result, whatever the environment says.

    Raises GrokphaseError if JAX does not find the device that it is told to use.
    """
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_threefry_partitionable", True)
    jax.config.update("jax_disable_most_optimizations", False)
    # Dynamics that diverge are found here, and named.
    jax.config.update("jax_debug_nans", False)
    jax.config.update("jax_debug_infs", False)
    try:
        jax.devices()
    except RuntimeError as error:
        raise GrokphaseError(
            f"JAX finds no device: {str(error).splitlines()[0]}; JAX_PLATFORMS is "
            f"{os.environ.get('JAX_PLATFORMS')!r}, unset it or set it to cpu"
        ) from error


class _Keeper:
    """Between blocks of draws: reports progress, saves the state in time, stops on a signal.

    finished : results of the datasets that are done, which the caller adds to.
    total, datasets : draws of a dataset, burn-in included, and number of datasets of the job.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        every_seconds: float,
        interrupted: Callable[[], str | None],
        finished: dict[int, Arrays],
        total: int,
        datasets: int,
    ) -> None:
        self._checkpoint = checkpoint
        self._every = every_seconds
        self._interrupted = interrupted
        self.finished = finished
        self._total = total
        self._draws = total * datasets
        self._progress = Progress(self._draws, "draws")
        self._saved = time.monotonic()

    def after_block(self, group: list[int], now: Ensemble) -> None:
        """Raises StoppedError after a signal, once the state is saved."""
        done = self._total * len(self.finished) + now.done * len(group)
        self._progress.update(done)
        signal = self._interrupted()
        if signal or time.monotonic() - self._saved >= self._every:
            self._checkpoint.save(_pack_finished(self.finished) | _pack(group[0], now))
            self._saved = time.monotonic()
        if signal:
            raise StoppedError(
                f"stopped by {signal} after {done} of {self._draws} draws; the state is saved: "
                "the same command continues from it"
            )

    def close(self) -> None:
        self._progress.close()


def _train_group(
    specification: TrainingSpecification,
    model: ModuleType,
    sampler: Sampler,
    files: dict[int, Path],
    restored: Arrays,
    keeper: _Keeper,
) -> dict[int, Arrays]:
    """Results of the networks of a group of datasets (index -> file), which move together.

    They continue from the state in `restored` if it is theirs.
    """
    group = list(files)
    data = [
        model.load_data(specification.parameters, _read_dataset(specification, dataset, path))
        for dataset, path in files.items()
    ]
    start_keys = _network_keys(specification, group, "start")
    placed = _stacked(
        [
            _placed(specification, model, keys, one)
            for keys, one in zip(listed(start_keys), data, strict=True)
        ]
    )
    together, noise_ratios = _stacked(data), _noise_ratios(specification)
    adjusted = kernels.settings(specification.kernel).exact
    schedule = sampler.schedule

    def after_block(now: Ensemble) -> None:
        if adjusted and now.done > schedule.unadjusted:
            _check_precision(specification, group, now)
        if now.done == schedule.burn_in + schedule.draws and not keeper.finished:
            # Of the first group only: they take as long as a draw or two.
            _check_profiles(specification, sampler, now, together)
        keeper.after_block(group, now)

    try:
        ensemble = sampler.start(placed, together, start_keys, noise_ratios)
        began = jax.tree.map(np.array, ensemble.state.position)
        if restored.get("current/dataset") == group[0]:
            ensemble = _unpack_ensemble(restored, ensemble)
        ensemble = sampler.run(
            _network_keys(specification, group, "steps"),
            ensemble,
            together,
            after_block,
            noise_ratios,
        )
    except DivergenceError as error:
        names = ("unadjusted_step_size", "step_size")
        steps = " or ".join(name for name in names if specification.kernel.get(name))
        raise DivergenceError(
            f"training at {specification.point}, dataset {', '.join(map(str, group))}: {error}, "
            f"with the sampler {specification.kernel}; choose a smaller {steps} in "
            f"experiments.{specification.experiment}.sampler"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        networks = len(group) * len(specification.networks.starts())
        raise GrokphaseError(
            f"training at {specification.point}: the memory does not hold {networks} networks at a "
            f"time; lower networks or datasets_per_job in experiments.{specification.experiment}"
        ) from error
    if specification.neuron_sweeps and np.isnan(ensemble.acceptance[:, :, 1]).any():
        raise GrokphaseError(
            f"training at {specification.point}, dataset {', '.join(map(str, group))}: the kernel "
            "matrix is too ill-conditioned for sweeps in single precision; raise the noise or "
            "lower parameters.readout_variance, or set sampler.neuron_sweeps to 0, in "
            f"experiments.{specification.experiment}"
        )
    ended = jax.tree.map(np.asarray, ensemble.state.position)
    counts_column = shards.MODEL_COLUMNS[specification.model][0][0]
    observables = len(OBSERVABLES[specification.model])
    return {
        dataset: {
            "observables": ensemble.observables[row, :, :, :observables],
            **SteinMoments.of_draws(ensemble.observables[row], observables).columns(),
            "acceptance": ensemble.acceptance[row, :, 0] / specification.draws,
            "sweep_acceptance": ensemble.acceptance[row, :, 1] / specification.draws,
            "control_variates": model.control_variates(data[row]),
            counts_column: ensemble.counts[row],
            f"expected_{counts_column}": ensemble.expected_counts[row],
            "overlap_profiles": ensemble.profiles[row].reshape(len(ensemble.profiles[row]), -1),
            **model.saved(
                *(jax.tree.map(lambda x, row=row: x[row], p) for p in (began, ended)),
                specification.parameters,
            ),
        }
        for row, dataset in enumerate(group)
    }


def _check_precision(specification: TrainingSpecification, group: list[int], now: Ensemble) -> None:
    """Raises GrokphaseError where potentials are too large to be compared in single precision."""
    potential = float(np.abs(now.state.potential).max())
    error = potential * float(np.finfo(np.float32).eps)
    if error > LARGEST_ENERGY_ERROR:
        raise GrokphaseError(
            f"training at {specification.point}, dataset {', '.join(map(str, group))}: the "
            f"potential is {potential:.2g} nats, which single precision holds to {error:.2g} nats: "
            "too coarse to accept or reject proposals by; set sampler.metropolis to false, or "
            "raise the noise or lower the sizes, in "
            f"experiments.{specification.experiment}"
        )


def _check_profiles(
    specification: TrainingSpecification, sampler: Sampler, now: Ensemble, data: Any
) -> None:
    """Raises GrokphaseError if the noise of a network's profiles would show in the action.

    now : an ensemble in equilibrium.
    """
    if sampler.profiles is None:
        return
    noise, largest = sampler.noise_of_profiles(now.state, data), sampler.profiles.largest_noise
    if noise > largest:
        raise GrokphaseError(
            f"training at {specification.point}: profiles of one network differ by {noise:.1f} "
            f"nats, at most {largest:g} of which average out: the tail of p(q) would be "
            "biased; leave this point out of umbrella.select, or remove umbrella, in "
            f"experiments.{specification.experiment}"
        )


def _arithmetic(together: int) -> str:
    """What the bits of a result depend on beside the specification and the code."""
    text = f"JAX {jax.__version__}, {jax.default_backend()}"
    if jax.default_backend() == "cpu" and multiplies_bfloat16():
        text += ", bfloat16"
    return text if together == 1 else f"{text}, {together} datasets together"


def datasets_together(specification: TrainingSpecification, datasets: list[int]) -> list[list[int]]:
    """The datasets in groups whose networks move at the same time.

    On a CPU every dataset alone: nothing is gained there by more, and the state is saved between
    datasets. On an accelerator as many as half of its memory holds, for it is used the better the
    more networks there are; groups are of equal size, since each size is compiled anew.
    """
    if jax.default_backend() == "cpu":
        return [[dataset] for dataset in datasets]
    memory = 0.5 * (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 2**33)
    networks = len(specification.networks.starts())
    model = importlib.import_module(f"grokphase.models.{specification.model}")
    most = max(1, int(memory / (networks * model.bytes_per_network(specification.parameters))))
    size = next(k for k in range(min(most, len(datasets)), 0, -1) if len(datasets) % k == 0)
    return [datasets[first : first + size] for first in range(0, len(datasets), size)]


def common_specification(
    specification: TrainingSpecification, model: ModuleType
) -> TrainingSpecification:
    """The same without what its programs are given as data or in keys, all of which is None.

    Programs are made from it, so that none can hold a value of one point and serve another. The
    windows of an umbrella are data too.
    """
    of_point = dict.fromkeys(model.PARAMETERS_IN_DATA)
    parameters = specification.parameters.model_copy(update=of_point)
    named = dict.fromkeys(("experiment", "seed", "point", "umbrella"))
    return specification.model_copy(update={"parameters": parameters, **named})


def _sampler(
    specification: TrainingSpecification,
    model: ModuleType,
    datasets: int,
    program_folder: Path | None = None,
) -> Sampler:
    """The sampler of networks on so many datasets at a time; compiled programs are kept in the
    folder, if there is one."""
    umbrella = specification.umbrella
    specification = common_specification(specification, model)
    identity = [specification.model_dump(mode="json", warnings=False), datasets]
    parameters = specification.parameters
    moves = importlib.import_module(f"grokphase.models.{specification.model}_moves")
    kernel = kernels.load(specification.kernel["kernel"])
    settings = kernels.settings(specification.kernel)

    def make_kernel(data: Any, accept_all: jax.Array) -> kernels.Kernel:
        def build(target: kernels.Target) -> kernels.Kernel:
            return kernel.build(target, settings, accept_all=accept_all)

        return moves.with_moves(build, specification, parameters, data, accept_all)

    def observe(data: Any, state: kernels.State) -> tuple[jax.Array, jax.Array]:
        observables = model.observables(state.position, state.potential, parameters, data)
        variates = model.stein_variates(state, parameters, data)
        return (
            jnp.concatenate([observables, variates]),
            model.order_parameters(state.position, parameters, data),
        )

    def with_exact_gradient(data: Any, state: kernels.State) -> kernels.State:
        target = model.target(parameters, data)
        if not settings.approximate_forces or target.approximate_gradient is None:
            return state
        return state._replace(gradient=target.potential_and_gradient(state.position)[1])

    def settle(key: jax.Array, position: Any, data: Any) -> Any:
        return model.settle(key, position, parameters, data)

    gradients = settings.gradients(specification.unadjusted_steps / specification.steps_in_all)
    per_step = moves.work_per_step(specification, parameters, gradients)
    work_per_draw = per_step * specification.thin * len(specification.networks.starts())
    speed = 1.0 if jax.default_backend() == "cpu" else ACCELERATOR_SPEED
    schedule = Schedule(
        burn_in=specification.burn_in_draws,
        draws=specification.draws,
        thin=specification.thin,
        block=block_size(work_per_draw * datasets / speed),
        **_windows(umbrella),
    )
    return Sampler(
        make_kernel,
        observe,
        len(OBSERVABLES[specification.model]) + len(STEIN_VARIATES[specification.model]),
        schedule,
        model.COUNTING,
        moves.expected_counts(specification, parameters),
        moves.profiles(umbrella, parameters),
        work_per_draw * (schedule.burn_in + schedule.draws),
        with_exact_gradient if STEIN_VARIATES[specification.model] else None,
        settle,
        Programs(program_folder, identity),
    )


def _windows(umbrella: Umbrella | None) -> dict[str, int]:
    """What a schedule says of the windows."""
    if umbrella is None:
        return {}
    return {
        "windows": len(umbrella.overlaps),
        "window_burn_in": umbrella.burn_in,
        "window_draws": umbrella.draws,
    }


def _read_dataset(specification: TrainingSpecification, dataset: int, path: Path) -> Any:
    identity: dict[str, Any] = {
        "experiment": specification.experiment,
        "seed": specification.seed,
        "dataset": dataset,
    }
    parameters = specification.parameters
    if isinstance(parameters, ModularAddition):
        return read_dataset(path, PairOrderSpecification(**identity, prime=parameters.prime))
    wanted = DatasetSpecification(
        **identity, input_dim=parameters.input_dim, train_size=parameters.train_size
    )
    return read_dataset(path, wanted)


def _network_keys(
    specification: TrainingSpecification, datasets: list[int], purpose: str
) -> jax.Array:
    """Keys [datasets, networks] for a purpose."""
    one = specification
    return stacked(
        [
            network_keys(
                one.experiment, one.seed, one.point, dataset, one.networks.starts(), purpose
            )
            for dataset in datasets
        ]
    )


def _placed(
    specification: TrainingSpecification, model: ModuleType, keys: jax.Array, data: Any
) -> Any:
    """Where networks are placed, with a leading axis [networks], by their keys [networks] alone."""
    positions = [
        model.place(
            key,
            STARTS[kind],
            specification.parameters.model_copy(update={"noise": noise}),
            data,
            specification.planted,
        )
        for key, (kind, _), noise in zip(
            listed(keys),
            specification.networks.starts(),
            _first_noises(specification),
            strict=True,
        )
    ]
    return _stacked(positions)


def _first_noises(specification: TrainingSpecification) -> list[float]:
    """Noise at which every network of a dataset begins."""
    own, annealing = specification.parameters.noise, specification.annealing
    return [
        (annealing.noise(kind) if annealing else None) or own
        for kind, _ in specification.networks.starts()
    ]


def _noise_ratios(specification: TrainingSpecification) -> jax.Array | None:
    """Noise at the beginning of burn-in over the point's own [networks]; None if none anneals."""
    ratios = np.array(_first_noises(specification)) / specification.parameters.noise
    return None if (ratios == 1).all() else jax.device_put(ratios.astype(np.float32))


def _stacked(trees: list[Any]) -> Any:
    """Pytrees of one structure as one with a leading axis."""
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *trees))


def _pack_finished(finished: dict[int, Arrays]) -> Arrays:
    """Finished datasets as named arrays."""
    return {f"finished/{i}/{name}": x for i, one in finished.items() for name, x in one.items()}


def _pack(dataset: int, ensemble: Ensemble) -> Arrays:
    """The ensemble under way as named arrays; `dataset` is the first of its group."""
    leaves = jax.tree.leaves(ensemble.state)
    return {f"current/state/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)} | {
        "current/dataset": np.asarray(dataset),
        "current/done": np.asarray(ensemble.done),
        "current/observables": ensemble.observables,
        "current/acceptance": ensemble.acceptance,
        "current/counts": ensemble.counts,
        "current/expected_counts": ensemble.expected_counts,
        "current/profiles": ensemble.profiles,
        "current/window_acceptance": ensemble.window_acceptance,
    }


def _unpack_finished(arrays: Arrays) -> dict[int, Arrays]:
    finished: dict[int, Arrays] = {}
    for path, value in arrays.items():
        part, _, rest = path.partition("/")
        if part == "finished":
            index, _, name = rest.partition("/")
            finished.setdefault(int(index), {})[name] = value
    return finished


def _unpack_ensemble(arrays: Arrays, like: Ensemble) -> Ensemble:
    structure = jax.tree.structure(like.state)
    leaves = [
        jax.device_put(arrays[f"current/state/{i}"])
        for i in range(len(jax.tree.leaves(like.state)))
    ]
    return Ensemble(
        int(arrays["current/done"]),
        jax.tree.unflatten(structure, leaves),
        arrays["current/observables"],
        arrays["current/acceptance"],
        arrays["current/counts"],
        arrays["current/expected_counts"],
        arrays["current/profiles"],
        arrays["current/window_acceptance"],
    )


def _table(finished: dict[int, Arrays], starts: list[tuple[str, int]], model: str) -> pa.Table:
    observables = OBSERVABLES[model]
    schema = shards.schema(observables, model)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for dataset, results in sorted(finished.items()):
        for row, (kind, network) in enumerate(starts):
            columns["dataset"].append(dataset)
            columns["start"].append(kind)
            columns["network"].append(network)
            columns["acceptance"].append(results["acceptance"][row])
            swept = float(results["sweep_acceptance"][row])
            columns["sweep_acceptance"].append(None if math.isnan(swept) else swept)
            columns["control_variates"].append(results["control_variates"])
            for name in ("stein_means", "stein_covariances"):
                columns[name].append(results[name][row])
            for column, name in enumerate(observables):
                columns[name].append(results["observables"][row, :, column])
            for name, _ in shards.MODEL_COLUMNS[model]:
                columns[name].append(results[name][row])
    return pa.Table.from_pydict(columns, schema=schema)
