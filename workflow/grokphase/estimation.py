"""How much a run still has to do, from the resource model; read before anything runs."""

import heapq
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from grokphase import resources
from grokphase.config import Config
from grokphase.errors import GrokphaseError
from grokphase.layout import AGGREGATES, THEORY_TABLES, Layout, parse_range, range_name
from grokphase.specifications.convergence import CHAIN_LIMIT
from grokphase.tables.observables import OBSERVABLES

START_SECONDS = 3.0
"""Snakemake's own start, of processor and of wall-clock time."""

JOB_SECONDS = 0.3
"""What Snakemake adds to every job, of processor time and on one machine of wall-clock time."""

SUBMISSION_SECONDS = 25.0
"""Wait of a cluster job: dispatch, two starts of Snakemake, and until its end is noticed."""

RELATIVE_ERROR = 0.3
"""Scatter of measured over expected times."""

STAGE_ORDER = ("dataset", "theory", "baseline", "train", "aggregate", "summary", "figure")

SIDE_BY_SIDE = (
    ("dataset",),
    ("theory", "baseline", "train", "aggregate", "summary"),
    ("figure",),
)
"""Stages whose jobs on one machine overlap in time; a group follows the one before it."""

ON_CLUSTER = ("train", "baseline")
"""Stages that are submitted; the others run where Snakemake runs."""


REFERENCE = resources.Slowness()
"""The machine that the resource model was measured on."""


class Job(NamedTuple):
    """One job still to do: its stage and what it needs; `compilation` is in seconds beside that."""

    stage: str
    needs: resources.Resources
    disk: float
    compilation: float = 0.0


class Profile(NamedTuple):
    """What a profile says about parallel running."""

    cluster: bool = False
    jobs: int = 1
    cores: int = 1
    local_cores: int = 2
    components: Mapping[str, int] = {}
    gpu: bool = False


class Estimate(NamedTuple):
    """Totals of a run: seconds of processors, of wall-clock time, MiB of the largest job and of
    disk, and submissions to the cluster."""

    core_seconds: float
    wall_seconds: float
    memory: float
    disk: float
    submissions: int


def read_profile(folder: Path | None, cores: int) -> Profile:
    """The profile in a folder; without one, a run on `cores` cores of this machine."""
    if folder is None:
        return Profile(cores=cores)
    path = folder / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GrokphaseError(f"--profile: {path} cannot be read: {error}") from None
    if not isinstance(settings, Mapping):
        raise GrokphaseError(f"--profile: {path} must hold a mapping of options of Snakemake")

    def count(key: str, value: Any) -> int:
        if value == "all":
            return os.cpu_count() or 1
        if value == "unlimited":
            return sys.maxsize
        try:
            return int(value)
        except (TypeError, ValueError):
            raise GrokphaseError(f"--profile: {path}, {key}: {value!r} is not a number") from None

    grouped = settings.get("group-components", [])
    grouped = grouped.split() if isinstance(grouped, str) else grouped
    pairs = [str(item).partition("=") for item in grouped if isinstance(grouped, list)]
    resources_of = settings.get("set-resources")
    train = resources_of.get("train") if isinstance(resources_of, Mapping) else None
    return Profile(
        settings.get("executor", "local") != "local",
        count("jobs", settings.get("jobs", 1)),
        count("cores", settings.get("cores", cores)),
        count("local-cores", settings.get("local-cores", 2)),
        {name: count("group-components", number) for name, _, number in pairs},
        isinstance(train, Mapping) and bool(train.get("gpu")),
    )


def planned_jobs(targets: Iterable[str], scale: str, config: Path) -> list[dict[str, str]]:
    """Jobs that Snakemake would run: rule and wildcards of each.

    Raises GrokphaseError with Snakemake's message if it cannot plan them.
    """
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--cores", "1"]
    # The profile may ask for less, and what is parsed below must be there.
    command += ["--quiet", "host"]
    command += ["--configfile", str(config), "--config", f"scale={scale}", "--", *targets]
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        lines = [line for line in text.splitlines() if line and not line.startswith("Using ")]
        raise GrokphaseError("the run cannot be planned: " + "\n  ".join(lines[-8:]))
    found = []
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", text, re.M):
        match = re.search(r"^    wildcards: (.*)$", block, re.M)
        pairs = (part.partition("=") for part in (match[1].split(", ") if match else ()))
        found.append({"rule": rule} | {name: value for name, _, value in pairs})
    if not found and "Nothing to be done" not in text:
        raise GrokphaseError(
            "Snakemake does not say what it would do: its profile, or SNAKEMAKE_PROFILE, has "
            "another logger or makes it quiet"
        )
    return found


def needs(job: Mapping[str, str], config: Config) -> Job | None:
    """What a planned job needs; None for targets that only collect files."""
    stage = next((one for one in STAGE_ORDER if job["rule"].split("_")[0] == one), None)
    if stage is None or ("experiment" not in job and "figure" not in job):
        return None
    if stage == "train":
        specification = config.training(job["experiment"], job["point"])
        datasets = len(parse_range(job["datasets"]))
        cost = resources.training(specification, datasets)
        networks = datasets * len(specification.networks.starts())
        per_network = 0.002 + specification.draws * 4e-5
        if specification.umbrella is not None:
            per_network += 0.005
        return Job(stage, cost, 0.02 + networks * per_network)
    if stage == "baseline":
        [point, *_] = config.experiments[job["experiment"]].points().values()
        return Job(stage, resources.baseline(point.train_size), 0.01)
    if stage == "dataset":
        [point, *_] = config.experiments[job["experiment"]].points().values()
        size = getattr(point, "train_size", 0) * (getattr(point, "input_dim", 0) + 1) * 4 / 2**20
        return Job(stage, resources.Resources(resources.SECONDS[stage], 90 + 2 * size), size)
    disk = {"theory": 0.2, "aggregate": 0.05, "summary": 0.02, "figure": 0.5}[stage]
    cost = resources.Resources(resources.SECONDS[stage], 200.0)
    if stage == "aggregate":
        draws = _draws_kept(config, job["experiment"], job["point"])
        observables = len(OBSERVABLES[config.experiments[job["experiment"]].model])
        # Of longer chains the means of batches are kept too. Files are 0.7 to 0.9 of this.
        numbers = 2 if config.training(job["experiment"], job["point"]).draws > CHAIN_LIMIT else 1
        disk += draws * observables * numbers * 8 / 2**20
    if stage in ("summary", "figure"):
        if stage == "summary":
            name, points = job["experiment"], config.summary(job["experiment"]).points
        else:
            figure = config.figure(job["figure"])
            name, points = figure.experiment, tuple(figure.points)
        judged = resources.judging([_draws_kept(config, name, point) for point in points])
        cost = resources.Resources(cost.seconds + judged.seconds, cost.memory + judged.memory)
    return Job(stage, cost, disk)


def _draws_kept(config: Config, experiment: str, point: str) -> int:
    """Draws of all networks of a point that its chains keep."""
    specification = config.aggregation(experiment, point)
    networks = specification.datasets * specification.networks_per_dataset
    return networks * min(specification.training.draws, CHAIN_LIMIT)


def jobs_to_do(planned: Iterable[Mapping[str, str]], config: Config, workers: int) -> list[Job]:
    """What the planned jobs need.

    Programs of experiments without a shard are taken to be not yet compiled: the first jobs of
    each, as many as `workers` begin at the same time, compile them or wait for the one that does.
    """
    found = []
    compiling: dict[str, int] = {}
    for one in planned:
        job = needs(one, config)
        if job is None:
            continue
        if job.stage == "train":
            name = one["experiment"]
            if name not in compiling:
                compiling[name] = 0 if _has_shard(config, name) else workers
            if compiling[name]:
                compiling[name] -= 1
                specification = config.training(name, one["point"])
                job = job._replace(compilation=resources.compilation(specification))
        found.append(job)
    return found


def _has_shard(config: Config, name: str) -> bool:
    layout, one = Layout(config.scale), config.experiments[name]
    return any(
        Path(layout.shard(name, point, range_name(datasets))).exists()
        for point in one.points()
        for datasets in one.shards()
    )


def estimate(
    jobs: list[Job], profile: Profile, slowness: resources.Slowness = REFERENCE
) -> Estimate:
    """Totals of these jobs on cores of this slowness.

    What other jobs than training do is imports for the most part. The wall-clock time is that of
    filling free cores, the longest job first; a queue's waiting time is not in it.
    """
    jobs = [_on_cores(job, slowness) for job in jobs]
    of_job = slowness.start * JOB_SECONDS
    local: list[Job] = []
    remote: dict[str, list[Job]] = {}
    for job in jobs:
        if profile.cluster and job.stage in ON_CLUSTER:
            remote.setdefault(job.stage, []).append(job)
        else:
            local.append(job)
    started = slowness.start * START_SECONDS if jobs else 0.0
    wall, submissions = started, 0
    here = profile.local_cores if profile.cluster else profile.cores
    for stages in SIDE_BY_SIDE:
        times = [job.needs.seconds + of_job for job in local if job.stage in stages]
        wall += makespan(times, here)
    for stage in ON_CLUSTER:
        members = sorted(remote.get(stage, []), key=lambda job: -job.needs.seconds)
        size = profile.components.get(stage, 1)
        groups = [members[i : i + size] for i in range(0, len(members), size)]
        submissions += len(groups)
        spans = [makespan([j.needs.seconds for j in g], profile.cores) for g in groups]
        wall += makespan([span + SUBMISSION_SECONDS for span in spans], profile.jobs)
    return Estimate(
        started + sum(job.needs.seconds + of_job for job in jobs),
        wall,
        max((job.needs.memory for job in jobs), default=0.0),
        sum(job.disk for job in jobs),
        submissions,
    )


def _on_cores(job: Job, slowness: resources.Slowness) -> Job:
    """The job with what it needs on cores of this slowness, compilation included."""
    needs = job.needs._replace(seconds=slowness.start * job.needs.seconds)
    if job.stage == "train":
        needs = resources.on_machine(job.needs, slowness)
    seconds = needs.seconds + slowness.start * job.compilation
    return job._replace(needs=needs._replace(seconds=seconds), compilation=0.0)


def makespan(times: Iterable[float], workers: int) -> float:
    """Time until all are done when the longest is always started first on a free worker."""
    longest_first = sorted(times, reverse=True)
    free = [0.0] * max(min(workers, len(longest_first)), 1)
    for time in longest_first:
        heapq.heapreplace(free, free[0] + time)
    return max(free)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def report(jobs: list[Job], profile: Profile, slowness: resources.Slowness = REFERENCE) -> str:
    """The estimate as text, one line for each quantity, times with their error."""
    total = estimate(jobs, profile, slowness)
    counts = {stage: sum(job.stage == stage for job in jobs) for stage in STAGE_ORDER}
    shown = ", ".join(f"{number} {stage}" for stage, number in counts.items() if number)
    percent = f"± {RELATIVE_ERROR:.0%}"
    kind = "core" if not profile.gpu else "core (training would run on GPUs, not calibrated)"
    lines = [
        f"jobs: {len(jobs)}" + (f" ({shown})" if shown else ""),
        f"{kind}-hours: {total.core_seconds / 3600:.2g} {percent}",
        f"wall time: {duration(total.wall_seconds)} {percent}"
        + (", without waiting in the queue" if profile.cluster else f" on {profile.cores} cores"),
        f"memory: {math.ceil(total.memory)} MiB for the largest job",
        f"disk: {math.ceil(total.disk)} MiB",
    ]
    if profile.cluster:
        lines.insert(1, f"sbatch calls: {total.submissions}")
    return "\n".join(lines)


LONGEST_REST = 1e9
"""Seconds that a job takes at most, whatever its log says: thirty years."""

STATES = ("done", "running", "failed", "slow", "waiting", "outdated")


class Progress(NamedTuple):
    """Training jobs of one point by state."""

    experiment: str
    point: str
    done: int
    running: int
    failed: int
    slow: int
    waiting: int
    outdated: int
    remaining: float


def progress(config: Config, now: float, stale: float = 120.0) -> list[Progress]:
    """State of every point that trains, from shards, logs and their times alone.

    A shard of other settings than those of `config` is outdated: its job will run again. A job runs
    once its log is there and holds no error, and is slow if its log then stays silent
    for `stale` seconds longer than the whole job should take. `remaining` is the expected
    processor time in seconds of what is not done.
    """
    layout = Layout(config.scale)
    found = []
    for name, experiment in config.experiments.items():
        for point in experiment.points() if experiment.trains else ():
            counts = dict.fromkeys(STATES, 0)
            remaining = 0.0
            for datasets in experiment.shards():
                label = range_name(datasets)
                wanted = config.training(name, point)
                expected = resources.training(wanted, len(datasets)).seconds
                shard = Path(layout.shard(name, point, label))
                if shard.exists():
                    current = _was_made_with(shard, wanted.model_dump(mode="json"))
                    counts["done" if current else "outdated"] += 1
                    remaining += 0.0 if current else expected
                    continue
                log = Path(layout.log(f"train/{name}/{point}/{label}"))
                state, left = _job_state(log, expected, now, stale)
                counts[state] += 1
                remaining += left
            found.append(Progress(name, point, remaining=remaining, **counts))
    return found


def outdated_results(config: Config, compared: Callable[[Path], bool]) -> list[Path]:
    """Tables, of those that are to be compared, that are there and were made with other settings
    than those of `config`: shards, aggregates, theory and baselines."""
    layout = Layout(config.scale)
    found = []
    for name, experiment in config.experiments.items():
        points = experiment.points() if experiment.trains else ()
        wanted: list[tuple[str, Callable[[str, Any], BaseModel], str | int]] = [
            (layout.shard(name, point, range_name(datasets)), config.training, point)
            for point in points
            for datasets in experiment.shards()
        ]
        wanted += [
            (layout.aggregate(name, point, table), config.aggregation, point)
            for point in points
            for table in AGGREGATES[experiment.model]
        ]
        wanted += [
            (layout.theory(name, line, table), config.theory, line)
            for line in experiment.lines()
            for table in THEORY_TABLES[experiment.model]
        ]
        figures = [one for one in config.figures.values() if one.experiment == name]
        wanted += [
            (layout.baseline(name, dataset), config.baseline, dataset)
            for dataset in range(max((one.baseline for one in figures), default=0))
        ]
        for file, specification, place in wanted:
            path = Path(file)
            if compared(path) and path.exists():
                settings = specification(name, place).model_dump(mode="json")
                if not _was_made_with(path, settings):
                    found.append(path)
    return found


def _was_made_with(path: Path, settings: dict[str, Any]) -> bool:
    """Whether a table was made with these settings; a damaged one was not."""
    from grokphase.storage import provenance

    try:
        recorded = provenance(path)
    except GrokphaseError:
        return False
    return bool(recorded.get("specification", recorded) == settings)


def _job_state(log: Path, expected: float, now: float, stale: float) -> tuple[str, float]:
    """State of an unfinished training job and the processor seconds that it still needs."""
    try:
        text, status = log.read_text(errors="replace"), log.stat()
    except OSError:
        return "waiting", expected
    if "Error: " in text:
        again = "the state is saved" in text
        return ("waiting" if again else "failed"), expected
    lines: list[Any] = re.findall(r"(\d+) of (\d+) draws, .* (\d+) s remaining", text)
    if lines and lines[-1][0] == lines[-1][1]:
        # It had finished, and its shard was removed.
        return "waiting", expected
    left = min(float(lines[-1][2]), LONGEST_REST) if lines else expected
    quiet = now - status.st_mtime
    if quiet > stale + expected:
        return "slow", left
    return "running", left
