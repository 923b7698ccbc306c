"""The training command on an accelerator and on one core of a CPU: same results, how much faster.

Runs `grokphase train`, as the rules do, for one point of the configuration on both, with the same
datasets, and compares what the networks of each dataset learned: the mean difference over its error
is Student's t with one degree of freedom less than there are datasets. Trains the accelerator once
more with ten times the networks. Writes accelerator.json and accelerator.md next to this file.

    python benchmarks/accelerator.py [--point noise~0.18/cubic_strength~-0.3] [--datasets 10]
"""

import os

# The memory of the accelerator is for the training processes.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
from grokphase.config import load_config
from grokphase.datasets import write_dataset
from grokphase.specifications.training import Networks, TrainingSpecification
from grokphase.tables.observables import OBSERVABLES
from reporting import machine, write

ROOT = Path(__file__).parent.parent
EXPERIMENT = "teacher_student"
NAMES = OBSERVABLES[EXPERIMENT]


def train(
    specification: TrainingSpecification, files: list[Path], folder: Path, platform: str
) -> dict[str, Any]:
    """Means [datasets, 7] of the observables; seconds; steps of networks per second; MiB.

    The command runs once to compile, and with one draw and all to tell its start from its steps.
    """
    burn_in, draws = specification.burn_in, specification.draws
    seconds, log = {}, ""
    for name, number in (("compiled", 1), ("one", 1), ("all", draws)):
        changed = specification.model_copy(update={"draws": number})
        command = [sys.executable, "-m", "grokphase", "train"]
        command += ["--specification", changed.model_dump_json(), "--threads", "1"]
        command += ["--datasets", f"0-{len(files) - 1}"]
        command += ["--dataset-files", " ".join(map(str, files))]
        command += ["--output", str(folder / f"{name}.parquet")]
        command += ["--checkpoints", str(folder / f"checkpoints of {name}")]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        if platform == "cpu":
            environment["JAX_PLATFORMS"] = "cpu"
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, text=True, capture_output=True)
        seconds[name] = time.perf_counter() - began
        log = done.stdout + done.stderr
        if done.returncode:
            raise SystemExit(f"training on {platform} failed:\n{log[-2000:]}")
    table = pq.read_table(folder / "all.parquet").to_pandas()
    means = table[list(NAMES)].map(np.mean).groupby(table["dataset"]).mean()
    memory = re.search(r"(\d+) MiB of the accelerator", log)
    of_step = (seconds["all"] - seconds["one"]) / (draws - 1)
    return {
        "platform": platform,
        "networks": len(table),
        "seconds": seconds["all"],
        "start_seconds": seconds["one"] - (burn_in + 1) * of_step,
        "compilation_seconds": seconds["compiled"] - seconds["one"],
        "steps_per_second": len(table) / of_step,
        "memory_mebibytes": int(memory[1]) if memory else None,
        "acceptance": float(table["acceptance"].mean()),
        "means": means.to_numpy().tolist(),
    }


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Mean difference of every observable, its error from the datasets, and their quotient t."""
    difference = np.array(one["means"]) - np.array(other["means"])
    mean = difference.mean(axis=0)
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    return {
        name: {"value": v, "difference": m, "error": e, "t": m / e}
        for name, v, m, e in zip(NAMES, np.mean(other["means"], axis=0), mean, error, strict=True)
    }


def report(runs: list[dict[str, Any]], compared: dict[str, Any], header: str) -> str:
    """Both tables as Markdown."""
    names = ("networks", "seconds", "start, s", "compilation, s", "networks x steps per second")
    lines = [header, "", f"| | {' | '.join((*names, 'MiB'))} |", "|---" * (len(names) + 2) + "|"]
    lines += [
        f"| {r['platform']} | {r['networks']} | {r['seconds']:.1f} | {r['start_seconds']:.1f} | "
        f"{r['compilation_seconds']:.1f} | {r['steps_per_second']:.1f} | "
        f"{r['memory_mebibytes'] or ''} |"
        for r in runs
    ]
    lines += ["", "| | CPU | accelerator - CPU | t |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {c['value']:.4f} | {c['difference']:+.4f} ± {c['error']:.4f} | {c['t']:+.1f} |"
        for name, c in compared.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, compare and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", default="noise~0.18/cubic_strength~-0.3")
    parser.add_argument("--datasets", type=int, default=10)
    parser.add_argument("--draws", type=int, default=16)
    given = parser.parse_args()
    header, accelerator = machine("jax"), jax.default_backend()
    if accelerator == "cpu":
        raise SystemExit("JAX finds no accelerator here")
    config = load_config(ROOT / "config.yaml", "paper")
    specification = config.training(EXPERIMENT, given.point).model_copy(
        update={"draws": given.draws}
    )
    many = specification.model_copy(update={"networks": Networks(prior=10, planted=10)})
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{i}.npz" for i in range(given.datasets)]
        for i, file in enumerate(files):
            write_dataset(config.dataset(EXPERIMENT, i), file)
        runs = []
        for label, wanted, platform in (
            ("accelerator", specification, accelerator),
            ("many", many, accelerator),
            ("cpu", specification, "cpu"),
        ):
            folder = Path(name) / label
            folder.mkdir()
            runs.append(train(wanted, files, folder, platform))
            print(label, {k: v for k, v in runs[-1].items() if k != "means"}, flush=True)
    compared = compare(runs[1], runs[2])
    header = (
        f"{jax.devices()[0].device_kind} and one core of {header} "
        f"{given.point}, {given.datasets} datasets, "
        f"{specification.burn_in + specification.draws} steps. The comparison is with the most "
        "networks."
    )
    found = {"header": header, "runs": runs, "compared": compared}
    write("accelerator", found, report(runs, compared, header))


if __name__ == "__main__":
    main()
