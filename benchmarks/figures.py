"""Time of figures from nothing, and what it goes into: `snakemake` as a user calls it.

A copy of this project without results or compiled programs makes the figures. Every job notes its
time beside the results, and training jobs the rate of their draws in their logs; what is left of
the time of all cores is Snakemake's own, and cores that wait. Sampling is the draws alone, not the
start of a training job nor the compilation of its programs, but for the one of the profiles, 3 s
once, which comes in between. Writes figures.json and figures.md next
to this file.

    python benchmarks/figures.py [--cores 2] [--scale paper] [fig1 fig2]
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reporting import machine, write

ROOT = Path(__file__).parents[1]
COPIED = ("Snakefile", "config.yaml", "rules", "workflow", "profiles", "envs")
LAST_RATE = re.compile(r" (\d+) of \1 draws, ([\d.e+]+) draws/s")


def make(folder: Path, targets: list[str], cores: int, scale: str) -> float:
    """Seconds of a run in a copy of the project in `folder`."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder)
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), *targets]
    environment = {**os.environ, "PYTHONPATH": str(folder / "workflow")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    started = time.perf_counter()
    subprocess.run(
        [*command, "--config", f"scale={scale}"], cwd=folder, env=environment, check=True
    )
    return time.perf_counter() - started


def job_seconds(results: Path) -> dict[str, list[float]]:
    """Seconds of the jobs of every stage that there was."""
    found = {}
    for folder in sorted((results / "benchmarks").iterdir()):
        texts = [path.read_text().splitlines() for path in folder.rglob("*.tsv")]
        rows = [row for lines in texts for row in csv.DictReader(lines, delimiter="\t")]
        found[folder.name] = [float(row["s"]) for row in rows]
    return found


def draw_seconds(results: Path) -> float:
    """Seconds of the draws of all training jobs: their number over the rate that the job reports.

    The rate is that of all draws but the first block, which waits for programs.
    """
    total = 0.0
    for path in sorted((results / "logs" / "train").rglob("*.log")):
        found = LAST_RATE.findall(path.read_text())
        if not found:
            raise SystemExit(f"{path} does not say how fast the draws were")
        draws, rate = found[-1]
        total += int(draws) / float(rate)
    return total


def parts(seconds: float, cores: int, results: Path) -> list[dict[str, Any]]:
    """Core seconds by what they went into: the draws, the stages, and what is left."""
    jobs = job_seconds(results)
    draws = draw_seconds(results) if "train" in jobs else 0.0
    rows = [{"part": "draws", "jobs": len(jobs.get("train", [])), "seconds": draws}]
    for stage, times in jobs.items():
        beside = stage == "train"
        part = "training jobs beside their draws" if beside else stage
        rows.append(
            {"part": part, "jobs": len(times), "seconds": sum(times) - (draws if beside else 0.0)}
        )
    left = cores * seconds - sum(sum(times) for times in jobs.values())
    return [*rows, {"part": "Snakemake, and cores that wait", "jobs": None, "seconds": left}]


def table(rows: list[dict[str, Any]], seconds: float, cores: int, header: str) -> str:
    """The measurement as Markdown."""
    whole = cores * seconds
    lines = [
        header,
        "",
        f"{seconds:.0f} s; {1 - rows[0]['seconds'] / whole:.1%} of the time of the cores is not "
        "sampling.",
        "",
        "| part | jobs | core seconds | share |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['part']} | {'' if row['jobs'] is None else row['jobs']} | {row['seconds']:.1f} | "
        f"{row['seconds'] / whole:.1%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the figures once and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["fig1", "fig2"])
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scale", default="paper")
    given = parser.parse_args()
    header = (
        f"{' '.join(given.targets)} at the scale {given.scale} on {given.cores} cores, nothing "
        f"cached; {machine('jax', 'snakemake')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        seconds = make(project, given.targets, given.cores, given.scale)
        rows = parts(seconds, given.cores, project / "results" / given.scale)
    found = {"header": header, "seconds": seconds, "results": rows}
    write("figures", found, table(rows, seconds, given.cores, header))


if __name__ == "__main__":
    main()
