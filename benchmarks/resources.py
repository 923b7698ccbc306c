"""Time and memory of training jobs against the model in grokphase.resources, at several sizes.

    python benchmarks/resources.py > benchmarks/resources.md

Takes some minutes. The sizes are others than those that the constants were fitted on. Every size is
trained in a process of its own, after a run that compiles.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from grokphase import machine, resources
from grokphase.config import load_config
from grokphase.layout import range_name
from grokphase.specifications.training import TrainingSpecification

ROOT = Path(__file__).parents[1]
TEACHER_STUDENT = "teacher_student"
SMALL = "modular_small"
# (experiment, scale, changes of parameters, changes of the sampler, datasets). None of these sizes
# is one that the constants of grokphase.resources were fitted on.
SIZES = [
    (
        TEACHER_STUDENT,
        "quick",
        {"input_dim": 20, "width": 40, "train_size": 150},
        {"draws": 300},
        4,
    ),
    (TEACHER_STUDENT, "quick", {"input_dim": 80, "width": 200, "train_size": 1200}, {}, 6),
    (TEACHER_STUDENT, "paper", {"input_dim": 100, "width": 400, "train_size": 2000}, {}, 2),
    (
        TEACHER_STUDENT,
        "paper",
        {"input_dim": 200, "width": 1000, "train_size": 4000},
        {"burn_in": 0, "draws": 2, "metropolis": False, "force_precision": "float32"},
        1,
    ),
    (SMALL, "quick", {"prime": 17, "width": 120}, {"draws": 20}, 2),
    (SMALL, "quick", {"prime": 31, "width": 300}, {}, 1),
    (SMALL, "paper", {"prime": 19, "width": 800}, {"burn_in": 10, "draws": 10}, 1),
]


def stage(folder: Path, *arguments: object) -> tuple[float, float]:
    """Processor seconds and peak memory (MiB) of one command."""
    path = f"{ROOT / 'workflow'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    process = subprocess.Popen(
        [sys.executable, "-m", "grokphase", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def training_of(
    experiment: str, scale: str, parameters: dict[str, Any], sampler: dict[str, Any]
) -> TrainingSpecification:
    """The training at the first point of an experiment with parameters and sampler changed."""
    config = load_config(ROOT / "config.yaml", scale)
    specification = config.training(experiment, next(iter(config.experiments[experiment].points())))
    kernel = {k: v for k, v in sampler.items() if k in specification.kernel}
    schedule = {k: v for k, v in sampler.items() if k not in kernel}
    sizes = specification.parameters.model_copy(update=parameters)
    return specification.model_copy(
        update={"parameters": sizes, "kernel": specification.kernel | kernel, **schedule}
    )


def main() -> None:
    print("# Resources of training jobs\n")
    slowness = machine.slowness()
    print(
        "Written by `python benchmarks/resources.py`: processor seconds and peak memory (MiB), on "
        f"a machine {slowness:.2f} times as slow as the one that the constants were measured on; "
        "the seconds expected are scaled by that.\n"
    )
    print("| experiment | size | gradients | seconds | expected | memory | expected | asked |")
    print("|---|---|---|---|---|---|---|---|")
    for experiment, scale, parameters, sampler, datasets in SIZES:
        config = load_config(ROOT / "config.yaml", scale)
        specification = training_of(experiment, scale, parameters, sampler)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for dataset in range(datasets):
                wanted = config.dataset(experiment, dataset)
                known = {k: v for k, v in parameters.items() if k in type(wanted).model_fields}
                text = wanted.model_copy(update=known).model_dump_json()
                stage(folder, "dataset", "--specification", text)
            options = ("train", "--specification", specification.model_dump_json())
            options += ("--datasets", range_name(range(datasets)))
            for attempt in ("first", "second"):
                seconds, memory = stage(
                    folder, *options, "--checkpoints", attempt, "--output", f"{attempt}.parquet"
                )
        expected = resources.training(specification, datasets)
        seconds_here = slowness * expected.seconds
        steps = specification.burn_in + specification.draws * specification.thin
        gradients = datasets * len(specification.networks.starts()) * steps
        gradients *= int(specification.kernel.get("leapfrog_steps", 1))
        shown = ", ".join(
            f"{k}={v}"
            for k, v in specification.parameters.model_dump().items()
            if k in ("input_dim", "width", "train_size", "prime")
        )
        asked = resources.memory_request(expected.memory, 1)
        print(
            f"| {experiment} | {shown} | {gradients} | {seconds:.1f} | {seconds_here:.1f} "
            f"| {memory:.0f} | {expected.memory:.0f} | {asked} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
