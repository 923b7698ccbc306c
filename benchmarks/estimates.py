"""Predicted against real wall-clock time of figures 1 and 2 and of everything else, from nothing.

Asks `grokphase estimate` what fig1, then fig2, then all take in a copy of this project without
results, makes them, and writes all times to the standard output as Markdown. Every target starts
from what those before it have left. Compiled programs start from an empty cache.

    python benchmarks/estimates.py [--scale quick] [--cores 2]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("fig1", "fig2", "all")
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def command(folder: Path, *arguments: object) -> str:
    """Output of a Python module run in a project's folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "workflow")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"Error: {arguments[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def predicted_seconds(report: str) -> float:
    """The wall-clock time that `grokphase estimate` reports."""
    found = re.search(r"^wall time: ([\d.]+) (s|min|h) ", report, re.M)
    if found is None:
        sys.exit(f"Error: the estimate names no wall time:\n{report}")
    return float(found[1]) * UNITS[found[2]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    print(f"| target | predicted, s | real, s | predicted/real |\n{'|---' * 4}|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        folder.mkdir()
        for file in ("Snakefile", "config.yaml"):
            shutil.copy2(ROOT / file, folder)
        for part in ("rules", "profiles", "workflow", "envs"):
            shutil.copytree(ROOT / part, folder / part)
        for figure in TARGETS:
            options = ("--scale", arguments.scale, "--cores", arguments.cores)
            predicted = predicted_seconds(
                command(folder, "grokphase", "estimate", figure, *options)
            )
            started = time.perf_counter()
            command(
                folder, "snakemake", "--cores", arguments.cores,
                "--config", f"scale={arguments.scale}", "--", figure,
            )  # fmt: skip
            real = time.perf_counter() - started
            print(
                f"| {figure} | {predicted:.0f} | {real:.0f} | {predicted / real:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
