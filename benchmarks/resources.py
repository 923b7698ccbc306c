"""Time and memory of training jobs against the model in grokphase.resources, at several sizes.

    python benchmarks/resources.py > benchmarks/resources.md

Takes a quarter of an hour on two cores: two sizes at a time, each in a process of its own that
trains for two to five minutes, for requests are whole minutes. The sizes are others than those that
the constants were fitted on.
"""

import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

from grokphase import machine, resources
from grokphase.config import load_config
from grokphase.layout import range_name
from grokphase.processor import multiplies_bfloat16
from grokphase.specifications.training import TrainingSpecification

ROOT = Path(__file__).parents[1]
TEACHER_STUDENT = "teacher_student"
SMALL = "modular_small"
AT_A_TIME = 2
TEACHER_STUDENT_SAMPLER = {
    "step_size": 0.33,
    "unadjusted_step_size": None,
    "leapfrog_steps": 6,
    "unadjusted_leapfrog_steps": None,
    "neuron_sweeps": 2,
    "unadjusted_sweeps": None,
    "burn_in": 5,
}
"""Of the jobs that are measured, so that they do not change with the configuration's."""
# (experiment, scale, changes of parameters, changes of the sampler, datasets). None of these sizes
# is one that the constants of grokphase.resources were fitted on.
SIZES = [
    (
        TEACHER_STUDENT,
        "quick",
        {"input_dim": 20, "width": 40, "train_size": 150},
        {"draws": 16000},
        4,
    ),
    (
        TEACHER_STUDENT,
        "quick",
        {"input_dim": 80, "width": 200, "train_size": 1200},
        {"draws": 800},
        6,
    ),
    (
        TEACHER_STUDENT,
        "paper",
        {"input_dim": 100, "width": 400, "train_size": 2000},
        {"draws": 500},
        2,
    ),
    (
        TEACHER_STUDENT,
        "paper",
        {"input_dim": 200, "width": 1000, "train_size": 4000},
        {"burn_in": 0, "draws": 150, "metropolis": False, "force_precision": "float32"},
        1,
    ),
    (SMALL, "quick", {"prime": 17, "width": 120}, {"draws": 1100}, 2),
    (SMALL, "quick", {"prime": 31, "width": 300}, {"draws": 110}, 1),
    (SMALL, "paper", {"prime": 13, "width": 800}, {"burn_in": 10, "draws": 600}, 1),
]

COLUMNS = (
    "experiment",
    "size",
    "steps of a network",
    *("seconds", "expected", "asked", "asked/used"),
    *("memory", "expected", "asked", "asked/used"),
)


class Used(NamedTuple):
    """What one command took: seconds, and peak memory in MiB."""

    seconds: float
    memory: float


def stage(folder: Path, *arguments: object) -> Used:
    """Run one command of the package in a folder."""
    path = f"{ROOT / 'workflow'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "grokphase", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return Used(time.perf_counter() - began, usage.ru_maxrss / 1024)


def training_of(
    experiment: str, scale: str, parameters: dict[str, Any], sampler: dict[str, Any]
) -> TrainingSpecification:
    """The training at the first point of an experiment with parameters and sampler changed."""
    config = load_config(ROOT / "config.yaml", scale)
    specification = config.training(experiment, next(iter(config.experiments[experiment].points())))
    if experiment == TEACHER_STUDENT:
        sampler = TEACHER_STUDENT_SAMPLER | sampler
    kernel = {k: v for k, v in sampler.items() if k in specification.kernel}
    schedule = {k: v for k, v in sampler.items() if k not in kernel}
    sizes = specification.parameters.model_copy(update=parameters)
    return specification.model_copy(
        update={"parameters": sizes, "kernel": specification.kernel | kernel, **schedule}
    )


def measure(size: tuple[Any, ...], slowness: resources.Slowness) -> str:
    """Train one size on a machine of this slowness; its row of the table."""
    experiment, scale, parameters, _, datasets = size
    config = load_config(ROOT / "config.yaml", scale)
    specification = training_of(*size[:4])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dataset in range(datasets):
            wanted = config.dataset(experiment, dataset)
            known = {k: v for k, v in parameters.items() if k in type(wanted).model_fields}
            text = wanted.model_copy(update=known).model_dump_json()
            stage(folder, "dataset", "--specification", text)
        used = stage(
            folder,
            *("train", "--specification", specification.model_dump_json()),
            *("--datasets", range_name(range(datasets)), "--threads", 1),
            *("--checkpoints", "checkpoints", "--output", "shard.parquet"),
        )
    expected = resources.on_machine(resources.training(specification, datasets), slowness)
    sizes = specification.parameters.model_dump().items()
    asked = 60 * resources.time_request(expected.seconds, 1)
    memory = resources.memory_request(expected.memory, 1)
    cells = (
        experiment,
        ", ".join(
            f"{k}={v}" for k, v in sizes if k in ("input_dim", "width", "train_size", "prime")
        ),
        datasets * len(specification.networks.starts()) * specification.steps_in_all,
        *(f"{used.seconds:.0f}", f"{expected.seconds:.0f}", asked, f"{asked / used.seconds:.2f}"),
        *(f"{used.memory:.0f}", f"{expected.memory:.0f}", memory, f"{memory / used.memory:.2f}"),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    slowness = machine.slowness(AT_A_TIME)
    print("# Resources of training jobs\n")
    print(
        f"Written by `python benchmarks/resources.py`, {AT_A_TIME} jobs at a time: seconds and "
        "peak memory (MiB) beside what the model expects and what a job asks for, on a machine "
        f"{slowness.work:.2f} times as slow as the one that the constants were measured on, "
        f"{'with' if multiplies_bfloat16() else 'without'} products in bfloat16. What is expected "
        "takes that into account, as requests on a cluster do.\n"
    )
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    with ThreadPool(AT_A_TIME) as pool:
        for row in pool.imap(lambda size: measure(size, slowness), SIZES, chunksize=1):
            print(row, flush=True)


if __name__ == "__main__":
    main()
