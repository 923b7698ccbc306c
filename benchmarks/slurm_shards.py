"""What a tiny training shard costs on SLURM beside its training: in groups, and one job for each.

Starts the two-node SLURM of the tests on this machine, and sends shards of the smallest sizes
through it with profiles/slurm as it is: first with its groups, then with one job per shard. Wall
time is that of the whole `snakemake` command; processor time is that of the whole machine (from
/proc/stat, without what it was idle), Snakemake and SLURM included. The training proper of a shard
is what one more dataset adds to the time of a training process, and the start of a process is the
rest. Compiled programs are in the cache before anything is timed. The machine should be otherwise
idle. Writes slurm_shards.json and slurm_shards.md next to
this file.

    python benchmarks/slurm_shards.py [--grouped 1000] [--single 100]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from reporting import machine, write

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "workflow" / "cluster"))

from slurm import Slurm, missing  # noqa: E402

EXPERIMENT = "teacher_student"
POINT = "noise~0.2/cubic_strength~-0.3"
DATASETS_PER_POINT = 2
MORE_DATASETS = 50
PACKAGES = ("jax", "snakemake", "snakemake-executor-plugin-slurm")


def configuration(shards: int, datasets: int = DATASETS_PER_POINT) -> dict[str, Any]:
    """Smallest problems, as many as there are to be shards of one dataset each."""
    points = shards // DATASETS_PER_POINT
    return {
        "experiments": {
            EXPERIMENT: {
                "model": "teacher_student",
                "parameters": {
                    "input_dim": 2,
                    "width": 1,
                    "train_size": 1,
                    "weight_variance": 0.5,
                    "readout_variance": 0.3,
                },
                "sweep": {
                    "noise": [round(0.2 + 1e-4 * i, 4) for i in range(points)],
                    "cubic_strength": [-0.3],
                },
                "seed": 1,
                "datasets": datasets,
                "networks": {"prior": 1, "planted": 1},
                "subsets": 2,
                "datasets_per_job": 1,
                "sampler": {
                    "kernel": "hamiltonian",
                    "step_size": 0.3,
                    "leapfrog_steps": 1,
                    "burn_in": 0,
                    "draws": 4,
                },
                "theory": {"lowest_noise": 0.19, "highest_noise": 0.31, "noise_points": 3},
            }
        },
        "figures": {},
        "scales": {"paper": {}},
    }


def new_project(folder: Path, config: dict[str, Any]) -> None:
    """A copy of this project with another configuration."""
    folder.mkdir()
    shutil.copy2(ROOT / "Snakefile", folder)
    for name in ("rules", "profiles", "workflow", "envs"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def command(folder: Path, environment: dict[str, str], *arguments: object) -> float:
    """Wall-clock seconds of a Python module run in a project's folder."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder / "workflow")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"Error: {arguments[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return time.perf_counter() - started


def processes(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds that one training process takes to start, and to train one shard."""
    new_project(folder, configuration(2, MORE_DATASETS))
    environment = dict(os.environ)
    for dataset in range(MORE_DATASETS):
        command(
            folder, environment, "grokphase", "dataset", "--experiment", EXPERIMENT,
            "--dataset", dataset,
        )  # fmt: skip
    seconds: dict[str, list[float]] = {"0-0": [], f"0-{MORE_DATASETS - 1}": []}
    for attempt in range(repeats + 1):
        for datasets, found in seconds.items():
            elapsed = command(
                folder, environment, "grokphase", "train", "--experiment", EXPERIMENT,
                "--point", POINT, "--datasets", datasets, "--checkpoints", f"attempt{attempt}",
            )  # fmt: skip
            # The first attempt compiles.
            if attempt:
                found.append(elapsed)
    one, many = (float(np.median(found)) for found in seconds.values())
    training = (many - one) / (MORE_DATASETS - 1)
    return {"start": one - training, "training": training}


def busy() -> float:
    """Seconds that the machine's processors have worked since it started, all together."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, interrupts, soft_interrupts, _ = map(int, fields)
    ticks = user + nice + system + interrupts + soft_interrupts
    return ticks / os.sysconf("SC_CLK_TCK")


def shards(slurm: Slurm, folder: Path, number: int, *arguments: str) -> dict[str, Any]:
    """Submissions and times of so many shards, trained through SLURM."""
    new_project(folder, configuration(number))
    submitted, worked = len(slurm.sbatch_calls()), busy()
    wall = command(
        folder, slurm.environment, "snakemake", "--profile", "profiles/slurm",
        "--until", "train", *arguments,
    )  # fmt: skip
    worked = busy() - worked
    base = folder / "results" / "paper" / EXPERIMENT
    found = len(list(base.rglob("shards/*.parquet")))
    if found != number:
        sys.exit(f"Error: {found} of {number} shards were written")
    return {
        "shards": number,
        "sbatch_calls": len(slurm.sbatch_calls()) - submitted,
        "wall_seconds": wall,
        "processor_seconds": worked,
    }


def table(results: dict[str, Any], header: str) -> str:
    """Both ways of submitting, side by side."""
    process, training = results["process"], results["process"]["training"]
    runs = results["runs"]

    def row(name: str, values: list[str]) -> str:
        return f"| {name} | " + " | ".join(values) + " |"

    def per_shard(name: str) -> list[float]:
        return [run[name] / run["shards"] for run in runs.values()]

    cores = results["cores"]
    lines = [
        header,
        "",
        "| | " + " | ".join(runs) + " |",
        "|---|" + "---|" * len(runs),
        row("shards", [str(run["shards"]) for run in runs.values()]),
        row("sbatch calls", [str(run["sbatch_calls"]) for run in runs.values()]),
        row("wall time, s", [f"{run['wall_seconds']:.0f}" for run in runs.values()]),
        row("processor time, s", [f"{run['processor_seconds']:.0f}" for run in runs.values()]),
        row("training proper, s", [f"{run['shards'] * training:.1f}" for run in runs.values()]),
        row("wall time per shard, s", [f"{x:.2f}" for x in per_shard("wall_seconds")]),
        row(
            "overhead per shard, s of a processor",
            [f"{x - training:.2f}" for x in per_shard("processor_seconds")],
        ),
        row(
            f"idle share of {cores} core{'s' * (cores > 1)}",
            [
                f"{1 - run['processor_seconds'] / run['wall_seconds'] / cores:.0%}"
                for run in runs.values()
            ],
        ),
        "",
        f"A training process takes {process['start']:.2f} s to start (Python, JAX, compiled "
        f"programs from the cache) and {1e3 * training:.1f} ms for each shard's training, one "
        "process alone on the machine. What is left of the overhead is Snakemake and SLURM.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grouped", type=int, default=1000)
    parser.add_argument("--single", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if absent := missing():
        sys.exit(f"Error: {', '.join(absent)} are not installed; see envs/slurm-debian.sh")
    here = machine(*PACKAGES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        process = processes(folder / "process", arguments.repeats)
        slurm = Slurm(folder / "slurm")
        version = slurm.call("sinfo", "--version").strip()
        try:
            slurm.start()
            one = shards(
                slurm, folder / "single", arguments.single, "--group-components", "train=1"
            )
            grouped = shards(slurm, folder / "grouped", arguments.grouped)
        finally:
            slurm.stop()
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    [size] = [x for x in profile["group-components"] if x.startswith("train=")]
    cores = len(os.sched_getaffinity(0))
    results = {
        "cores": cores,
        "process": process,
        "runs": {f"{size.removeprefix('train=')} shards per job": grouped, "1 shard per job": one},
    }
    header = f"{here} {version}; the cores are those of two nodes of 8."
    write("slurm_shards", {"header": header, "results": results}, table(results, header))


if __name__ == "__main__":
    main()
