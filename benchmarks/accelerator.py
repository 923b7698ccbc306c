"""The training command on an accelerator and on one core of a CPU: same results, how much faster.

Runs `grokphase train`, as the rules do, for one point of the configuration on both, with the same
datasets, and compares what the networks of each dataset learned: the mean difference over its error
is Student's t with one degree of freedom less than there are datasets. Trains the accelerator once
more with ten times the networks. Writes accelerator.json and accelerator.md next to this file.

    python benchmarks/accelerator.py [--point noise~0.18/cubic_strength~-0.3] [--datasets 10]
"""

import argparse
import datetime
import json
import os
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

ROOT = Path(__file__).parent.parent
EXPERIMENT = "teacher_student"
NAMES = OBSERVABLES[EXPERIMENT]


def train(
    specification: TrainingSpecification, files: list[Path], folder: Path, platform: str
) -> dict[str, Any]:
    """Means [datasets, 7] of the observables; seconds with and without start; MiB; steps/s.

    The command runs twice, first with hardly any draws, to tell its start from its steps.
    """
    steps = specification.burn_in + specification.draws
    seconds, log = [], ""
    for number, draws in enumerate((1, specification.draws)):
        changed = specification.model_copy(
            update={"draws": draws, "burn_in": specification.burn_in if number else 0}
        )
        command = [sys.executable, "-m", "grokphase", "train"]
        command += ["--specification", changed.model_dump_json(), "--threads", "1"]
        command += ["--datasets", f"0-{len(files) - 1}"]
        command += ["--dataset-files", ",".join(map(str, files))]
        command += ["--output", str(folder / f"{number}.parquet")]
        command += ["--checkpoints", str(folder / "checkpoints")]
        environment = {**os.environ, "JAX_PLATFORMS": platform}
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, text=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
        log = done.stdout + done.stderr
        if done.returncode:
            raise SystemExit(f"training on {platform} failed:\n{log[-2000:]}")
    table = pq.read_table(folder / "1.parquet").to_pandas()
    means = table[list(NAMES)].map(np.mean).groupby(table["dataset"]).mean()
    memory = re.search(r"(\d+) MiB of the accelerator", log)
    networks = len(table)
    return {
        "platform": platform,
        "networks": networks,
        "seconds": seconds[1],
        "start_seconds": seconds[0] - (seconds[1] - seconds[0]) / (steps - 1),
        "steps_per_second": networks * (steps - 1) / (seconds[1] - seconds[0]),
        "memory_mebibytes": int(memory[1]) if memory else None,
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
    lines = [
        header,
        "",
        "| | networks | seconds | of them start | networks x steps per second | MiB |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {r['platform']} | {r['networks']} | {r['seconds']:.1f} | {r['start_seconds']:.1f} | "
        f"{r['steps_per_second']:.1f} | {r['memory_mebibytes'] or ''} |"
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
    given = parser.parse_args()
    accelerator = jax.default_backend()
    if accelerator == "cpu":
        raise SystemExit("JAX finds no accelerator here")
    config = load_config(ROOT / "config.yaml", "paper")
    specification = config.training(EXPERIMENT, given.point)
    many = specification.model_copy(update={"networks": Networks(prior=10, planted=10)})
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{i}.npz" for i in range(given.datasets)]
        for i, file in enumerate(files):
            write_dataset(config.dataset(EXPERIMENT, i), file)
        runs = []
        for label, wanted, platform in (
            ("cpu", specification, "cpu"),
            ("accelerator", specification, accelerator),
            ("many", many, accelerator),
        ):
            folder = Path(name) / label
            folder.mkdir()
            runs.append(train(wanted, files, folder, platform))
            print(label, {k: v for k, v in runs[-1].items() if k != "means"}, flush=True)
    compared = compare(runs[2], runs[0])
    header = (
        f"{jax.devices()[0].device_kind} and one core of {os.cpu_count()}, JAX {jax.__version__}, "
        f"{datetime.date.today()}; {given.point}, {given.datasets} datasets, "
        f"{specification.burn_in + specification.draws} steps. The comparison is with the most "
        "networks."
    )
    path = Path(__file__).parent / "accelerator"
    path.with_suffix(".json").write_text(
        json.dumps({"header": header, "runs": runs, "compared": compared}, indent=1) + "\n"
    )
    text = report(runs, compared, header)
    path.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
