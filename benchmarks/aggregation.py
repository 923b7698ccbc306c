"""Memory and time of aggregating one point, against the draws of its networks.

Synthetic shards of the paper's width: autocorrelated observables, and counts of as many neurons as
the draws would have. Every size is aggregated in a process of its own, by the command that the
workflow calls; the least memory is that of the smallest. Writes aggregation.json and aggregation.md
next to this file.

    python benchmarks/aggregation.py [--draws 1000 10000 100000 1500000]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from grokphase.config import load_config
from grokphase.specifications.aggregation import AggregationSpecification, Histogram
from grokphase.specifications.convergence import Convergence
from grokphase.storage import write_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES, STEIN_VARIATES
from reporting import machine, write
from scipy.signal import lfilter

WIDTH = 700
DATASETS = 4
STARTS = ("prior", "planted")
CORRELATION = 0.9
NAMES = OBSERVABLES["teacher_student"]
VARIATES = len(STEIN_VARIATES["teacher_student"])
CONFIG = load_config(Path(__file__).parents[1] / "config.yaml")
TRAINING = CONFIG.training("teacher_student", "noise~0.18/cubic_strength~-0.3")
PROVENANCE = {"specification": TRAINING.model_dump(mode="json")}
COMMAND = """
import sys, time
from grokphase.cli import cli
started = time.perf_counter()
status = 0
try:
    cli(sys.argv[1:])
except SystemExit as end:
    status = end.code or 0
# getrusage would also count the parent, from which this process was forked.
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
print("\\nmeasured", time.perf_counter() - started, peak)
sys.exit(status)
"""


def write_shard(path: Path, dataset: int, draws: int) -> None:
    """One network of each start: AR(1) observables, Gaussian overlaps."""
    random = np.random.default_rng(dataset)
    columns: dict[str, list[Any]] = {name: [] for name in shards.schema(NAMES).names}
    scale = 0.06 / shards.FINE_WIDTH
    bins = np.arange(shards.FINE_BINS + 2) - (shards.FINE_BINS + 1) / 2
    density = np.exp(-0.5 * (bins / scale) ** 2)
    for start in STARTS:
        columns["dataset"].append(dataset)
        columns["start"].append(start)
        columns["network"].append(0)
        columns["acceptance"].append(0.8)
        columns["sweep_acceptance"].append(1.0)
        columns["control_variates"].append(random.standard_normal(3))
        columns["stein_means"].append(random.standard_normal(VARIATES))
        measured = random.standard_normal((len(NAMES) + VARIATES, 1000))
        columns["stein_covariances"].append(np.cov(measured)[:, -VARIATES:].ravel())
        for name in NAMES:
            noise = random.standard_normal(draws, np.float32)
            columns[name].append(lfilter([1.0], [1.0, -CORRELATION], noise).astype(np.float32))
        counts = random.multinomial(WIDTH * draws, density / density.sum())
        columns["overlap_counts"].append(counts)
        columns["expected_overlap_counts"].append([])
        columns["overlap_profiles"].append([])
    write_table(path, pa.Table.from_pydict(columns, schema=shards.schema(NAMES)), PROVENANCE)


def measure(draws: int, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of the aggregation of shards with so many draws a network."""
    files = [folder / f"shard-{dataset}.parquet" for dataset in range(DATASETS)]
    for dataset, path in enumerate(files):
        write_shard(path, dataset, draws)
    specification = AggregationSpecification(
        point=TRAINING.point,
        model="teacher_student",
        training=TRAINING,
        datasets=DATASETS,
        networks_per_dataset=len(STARTS),
        subsets=2,
        control_variates=True,
        stein_variates=True,
        histogram=Histogram(),
        convergence=Convergence(),
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", COMMAND, "aggregate"),
            *("--specification", specification.model_dump_json()),
            *("--shards", " ".join(map(str, files)), "--output-folder", str(folder)),
            *("--checkpoints", str(folder / "checkpoints")),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = map(float, done.stdout.rsplit("measured", 1)[1].split())
    return {
        "draws": draws,
        "networks": DATASETS * len(STARTS),
        "neurons_per_network": WIDTH * draws,
        "shards_mib": sum(path.stat().st_size for path in files) / 2**20,
        "seconds": seconds,
        "peak_mib": peak,
    }


def table(results: list[dict[str, Any]], header: str) -> str:
    """The measurements as Markdown."""
    lines = [
        header,
        "",
        f"{results[0]['networks']} networks of {WIDTH} neurons in {DATASETS} shards.",
        "",
        "| draws a network | neurons counted a network | shards, MiB | seconds | peak, MiB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['draws']} | {r['neurons_per_network']:.1e} | {r['shards_mib']:.1f} | "
        f"{r['seconds']:.1f} | {r['peak_mib']:.0f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every number of draws and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_500_000])
    header, results = machine("numpy", "pyarrow"), []
    for draws in parser.parse_args().draws:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(draws, Path(folder)))
    write("aggregation", {"header": header, "results": results}, table(results, header))


if __name__ == "__main__":
    main()
