"""Seconds to plan a large sweep: `snakemake --dry-run` as a user calls it.

The teacher-student experiment of config.yaml with 50 noises, 10 cubic strengths and 10 training
jobs at each of these points, without any result. The command runs in a folder of its own, with the
default profile; of several runs the fastest counts. Beside it stands what Snakemake takes to plan
as many training jobs of a file that has nothing else: below that no project can come. Writes
planning.json and planning.md next to this file.

    python benchmarks/planning.py [--noises 50] [--strengths 10] [--shards 10] [--runs 3]
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from reporting import machine, write

ROOT = Path(__file__).parents[1]


BARE = """
rule all:
    input: expand("shards/{number}", number=range(JOBS))
rule train:
    output: "shards/{number}"
    log: "logs/{number}"
    benchmark: "benchmarks/{number}"
    resources: mem_mb=lambda w: 500, runtime=lambda w: 5
    params: specification=lambda w: w.number
    shell: "touch {output} {params.specification} > {log}"
"""


def configuration(noises: int, strengths: int, shards: int) -> dict[str, Any]:
    """A sweep with so many noises, cubic strengths and training jobs at each point."""
    experiment = yaml.safe_load((ROOT / "config.yaml").read_text())["experiments"][
        "teacher_student"
    ]
    experiment["sweep"] = {
        "noise": np.linspace(0.1, 0.3, noises).round(6).tolist(),
        "cubic_strength": np.linspace(-0.5, -0.05, strengths).round(6).tolist(),
    }
    experiment |= {"datasets": shards, "datasets_per_job": 1, "subsets": shards}
    return {
        "experiments": {"teacher_student": experiment},
        "figures": {
            "fig1": {
                "experiment": "teacher_student",
                "select": {"cubic_strength": experiment["sweep"]["cubic_strength"][:1]},
            },
            "fig2": {"experiment": "teacher_student"},
        },
        "scales": {"paper": {}},
    }


def plan(folder: Path, snakefile: Path) -> dict[str, Any]:
    """Seconds of one dry run, and the jobs it lists."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--scheduler", "greedy"]
    command += ["--cores", "1", "--snakefile", str(snakefile), "--directory", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M))
    return {
        "seconds": seconds,
        "processor_seconds": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        "jobs": int(counts["total"]),
        "training_jobs": int(counts["train"]),
    }


def table(results: list[dict[str, Any]], header: str) -> str:
    """The measurements as Markdown."""
    lines = [
        header,
        "",
        "| training jobs | all jobs | seconds | of processor | seconds of a bare file |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['training_jobs']} | {r['jobs']} | {r['seconds']:.1f} | "
        f"{r['processor_seconds']:.1f} | {r['bare_seconds']:.1f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Plan a tenth of the sweep and all of it, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noises", type=int, default=50)
    parser.add_argument("--strengths", type=int, default=10)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    header = f"{machine('snakemake')} Fastest of {given.runs} runs."
    results = []
    for noises in (max(1, given.noises // 10), given.noises):
        config = configuration(noises, given.strengths, given.shards)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            bare = Path(folder) / "bare.smk"
            bare.write_text(BARE.replace("JOBS", str(noises * given.strengths * given.shards)))
            runs = [
                plan(Path(folder), snakefile)
                for _ in range(given.runs)
                for snakefile in (ROOT / "Snakefile", bare)
            ]
        results.append(min(runs[::2], key=lambda run: run["seconds"]))
        results[-1]["bare_seconds"] = min(run["seconds"] for run in runs[1::2])
    write("planning", {"header": header, "results": results}, table(results, header))


if __name__ == "__main__":
    main()
