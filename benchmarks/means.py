"""How close means of a short schedule are to those of long runs, with Stein variates and without.

The teacher-student experiment of config.yaml at one cubic strength, without windows, is trained as
it is configured and with a burn-in of 12 and 40 draws, on the same datasets. What is compared is
the mean of every observable over the networks of a dataset: differences between the two schedules
with their standard errors over datasets, root mean squares over the noises. Both are those of
plain draws and of draws adjusted for Stein variates; the long runs' are adjusted in either case.
Writes means.json and means.md next to this file. A quarter of an hour on two cores.

    python benchmarks/means.py [--noises 0.1 0.12 0.14 0.18 0.25 0.3] [--draws 40] [--cores 2]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from grokphase.aggregation import as_networks, read_shards
from grokphase.config import Config, load_config
from grokphase.layout import Layout, range_name
from grokphase.stein import adjusted_means
from grokphase.tables.observables import OBSERVABLES
from numpy.typing import NDArray
from reporting import machine, write

ROOT = Path(__file__).parents[1]
EXPERIMENT = "teacher_student"
STRENGTH = -0.3


def configuration(noises: list[float], sampler: dict[str, Any]) -> dict[str, Any]:
    """The experiment at these noises, its sampler changed."""
    experiment = yaml.safe_load((ROOT / "config.yaml").read_text())["experiments"][EXPERIMENT]
    experiment["sweep"] = {"noise": noises, "cubic_strength": [STRENGTH]}
    experiment["sampler"] |= sampler
    del experiment["umbrella"]
    return {"experiments": {EXPERIMENT: experiment}, "figures": {}, "scales": {"paper": {}}}


def trained(folder: Path, config: dict[str, Any], cores: int) -> Config:
    """Train every network of a configuration in a folder of its own."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--quiet", "all"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    subprocess.run(command, env=environment, check=True)
    return load_config(config)


def means(folder: Path, config: Config, point: str) -> dict[str, NDArray[np.float64]]:
    """Means [networks, observables] of a point's networks, "plain" and "adjusted"."""
    specification = config.aggregation(EXPERIMENT, point)
    layout = Layout(config.scale)
    files = [
        folder / layout.shard(EXPERIMENT, point, range_name(datasets))
        for datasets in config.experiments[EXPERIMENT].shards()
    ]
    networks = as_networks(read_shards(specification, files), specification.model)
    plain = np.stack([chains.mean for chains in networks.draws.values()], axis=1)
    draws = specification.training.draws
    adjusted = adjusted_means(plain, networks.stein, networks.dataset, draws)
    return {"plain": plain, "adjusted": adjusted}


def in_errors(differences: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Mean over datasets of differences [datasets, observables], and that over its error."""
    mean = differences.mean(axis=0)
    error = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    return mean, mean / np.where(error == 0, 1.0, error)


def compare(
    short: tuple[Path, Config], long: tuple[Path, Config]
) -> dict[str, dict[str, dict[str, float]]]:
    """Root mean squares over the points, by observable and by kind of mean."""
    networks = short[1].experiments[EXPERIMENT].networks
    each = len(networks.starts())
    squares: dict[str, list[NDArray[np.float64]]] = {"plain": [], "adjusted": []}
    for point in short[1].experiments[EXPERIMENT].points():
        found, reference = means(*short, point), means(*long, point)["adjusted"]
        for kind, values in found.items():
            of_datasets = (values - reference).reshape(-1, each, values.shape[1]).mean(axis=1)
            prior, planted = np.split(
                values.reshape(-1, each, values.shape[1]), [networks.prior], axis=1
            )
            gaps = planted.mean(axis=1) - prior.mean(axis=1)
            squares[kind].append(np.square([*in_errors(of_datasets), in_errors(gaps)[1]]))
    labels = ("difference", "in_errors", "gap_in_errors")
    roots = {kind: np.sqrt(np.mean(values, axis=0)) for kind, values in squares.items()}
    return {
        name: {
            kind: dict(zip(labels, map(float, root[:, column]), strict=True))
            for kind, root in roots.items()
        }
        for column, name in enumerate(OBSERVABLES[EXPERIMENT])
    }


def table(results: dict[str, dict[str, dict[str, float]]], header: str) -> str:
    """The comparison as Markdown."""
    lines = [
        header,
        "",
        "Differences from long runs, root mean squares over the noises, in brackets in their "
        "standard errors, and gaps between the starts in theirs.",
        "",
        "| observable | plain | gap | adjusted | gap |",
        "|---|---|---|---|---|",
    ]
    for name, of_kind in results.items():
        cells = [
            f"{one['difference']:.2g} ({one['in_errors']:.1f}) | {one['gap_in_errors']:.1f}"
            for one in (of_kind["plain"], of_kind["adjusted"])
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train both schedules, compare them and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--noises", type=float, nargs="+", default=[0.1, 0.12, 0.14, 0.18, 0.25, 0.3]
    )
    parser.add_argument("--burn-in", type=int, default=12, help="of the long runs")
    parser.add_argument("--draws", type=int, default=40, help="of the long runs")
    parser.add_argument("--cores", type=int, default=2)
    given = parser.parse_args()
    schedules = ({}, {"burn_in": given.burn_in, "draws": given.draws})
    configs = [configuration(given.noises, sampler) for sampler in schedules]
    with tempfile.TemporaryDirectory() as name:
        runs = []
        for label, config in zip(("short", "long"), configs, strict=True):
            folder = Path(name) / label
            runs.append((folder, trained(folder, config, given.cores)))
        results = compare(*runs)
    sampler = configs[0]["experiments"][EXPERIMENT]["sampler"]
    header = (
        f"{sampler}, beside burn_in {given.burn_in} and draws {given.draws}; eps = {STRENGTH}, "
        f"noises {', '.join(map(str, given.noises))}. {machine('jax')}"
    )
    write("means", {"header": header, "results": results}, table(results, header))


if __name__ == "__main__":
    main()
