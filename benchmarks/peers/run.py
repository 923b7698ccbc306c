"""Samplers of several libraries on one posterior: bias, and effective samples per second.

The posterior is that of the paper's network, or of a smaller one of its scaling family (see
posterior.py). Every sampler runs four chains in turn in this process, on one thread, two of them
from the prior and two with planted droplets, so that a frozen chain shows as chains that disagree.
Processor time of sampling alone counts; tuning and compilation are stated. The reference is a long
Metropolis-adjusted run of this project's Hamiltonian kernel with sweeps over the neurons, checked
against a run without them, the first row of the table.

Writes peers.json and peers.md next to this file; each posterior replaces its own part, so two can
run at the same time on two cores.

    python benchmarks/peers/run.py --noise 0.25 [--beta 0.25] [--seconds 6] [--warmup 500]
        [--only EXPRESSION]

10 to 15 minutes at the defaults; the environment is that of `make bench-peers`.
"""

import os

os.environ["NPROC"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import datetime
import fcntl
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blackjax_samplers
import jax
import measuring
import numpy as np
import numpyro_samplers
import ours
import posterior
import torch_samplers
from report import markdown

CHAINS = 4
REFERENCE_PATIENCE = 6
CROSS_CHECK_PATIENCE = 4
FOLDER = Path(__file__).parent


def compare(
    noise: float, beta: float, seconds: float, warmup: int, only: str
) -> Iterator[dict[str, Any]]:
    """All samplers, or those in whose library and name `only` is found, on one posterior.

    Yields what is known after every sampler, so that one that fails loses nothing.
    """
    problem = posterior.problem(noise, beta)
    starts = posterior.starts(problem, CHAINS)
    key = jax.random.key(2)

    def run(number: int, candidate: Any, patience: int) -> dict[str, Any]:
        one = measuring.measure(
            problem, candidate, starts, patience * seconds, warmup, jax.random.fold_in(key, number)
        )
        measuring.report_progress(one)
        return one

    reference = measuring.variates_alone(run(0, ours.REFERENCE, REFERENCE_PATIENCE))
    check = run(1, ours.CROSS_CHECK, CROSS_CHECK_PATIENCE)
    measuring.judge(check, reference)
    candidates = [
        *ours.CANDIDATES,
        *blackjax_samplers.CANDIDATES,
        *numpyro_samplers.CANDIDATES,
        *torch_samplers.CANDIDATES,
    ]
    parameters = problem.parameters
    results = [check]
    known = {
        "noise": noise,
        "beta": beta,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"JAX {jax.__version__}, {blackjax_samplers.LIBRARY}, {numpyro_samplers.LIBRARY}, "
        f"{torch_samplers.LIBRARY}",
        "date": str(datetime.date.today()),
        "seconds": seconds,
        "warmup": warmup,
        "only": only,
        "complete": False,
        "parameters": parameters.model_dump(),
        "gradient": problem.gradient,
        "gradient_milliseconds": problem.milliseconds,
        "reference": reference,
        "results": results,
    }
    for number, candidate in enumerate(candidates):
        if re.search(only, f"{candidate.library} {candidate.name}"):
            one = run(2 + number, candidate, candidate.patience)
            for found in (one, measuring.variates_alone(one)) if one["with_variates"] else (one,):
                measuring.judge(found, reference)
                results.append(found)
            yield known
    yield known | {"complete": True}


def merge(found: dict[str, Any]) -> str:
    """Replace this posterior in peers.json and write peers.md anew; one process at a time."""
    path = FOLDER / "peers.json"
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = json.loads(path.read_text()) if path.exists() else {}
        known[f"Noise {found['noise']:g}, β = {found['beta']:g}"] = found
        known = dict(sorted(known.items(), key=lambda item: (item[1]["beta"], -item[1]["noise"])))
        path.write_text(json.dumps(known, indent=1) + "\n")
        text = markdown(known)
        (FOLDER / "peers.md").write_text(text)
    finally:
        os.close(folder)
    return text


def main() -> None:
    """Compare on one posterior and merge the result into the tables."""
    parser = argparse.ArgumentParser(description="Samplers of several libraries on one posterior.")
    parser.add_argument("--noise", type=float, required=True)
    parser.add_argument("--beta", type=float, default=0.25, help="N=700, n=3000 times this")
    parser.add_argument("--seconds", type=float, default=6.0, help="sampling time of each")
    parser.add_argument("--warmup", type=int, default=500, help="steps of the libraries' tuning")
    parser.add_argument("--only", default="", help="found in library and name")
    arguments = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    text = ""
    for known in compare(**vars(arguments)):
        text = merge(known)
    print(text)


if __name__ == "__main__":
    main()
