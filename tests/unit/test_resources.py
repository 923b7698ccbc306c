"""Resource requests, estimates, progress and what a profile asks of SLURM."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner
from grokphase import estimation, machine, resources, slurm
from grokphase.cli import cli
from grokphase.config import load_config
from grokphase.errors import GrokphaseError
from grokphase.layout import Layout
from grokphase.storage import write_table

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "resources.md"


def training(experiment="teacher_student", scale="paper"):
    config = load_config(ROOT / "config.yaml", scale)
    return config.training(experiment, next(iter(config.experiments[experiment].points())))


@pytest.mark.parametrize("experiment", ["teacher_student", "modular_small"])
def test_resources_grow_with_the_problem(experiment):
    small, large = training(experiment, "quick"), training(experiment, "paper")
    assert resources.training(large, 1).seconds > resources.training(small, 1).seconds
    assert resources.training(large, 1).memory >= resources.training(small, 1).memory
    one, four = (resources.training(small, n).seconds - resources.TRAINING_START for n in (1, 4))
    assert four == pytest.approx(4 * one)


def test_a_further_attempt_asks_for_more():
    for request in (resources.memory_request, resources.time_request):
        first, second, third = (request(1000.0, attempt) for attempt in (1, 2, 3))
        assert first < second < third
    assert resources.time_request(0.0, 1) == resources.FEWEST_MINUTES
    assert resources.memory_request(1000.0, 1) > 1000
    assert resources.time_request(600.0, 1) > 10


def test_measured_jobs_fit_and_none_asks_for_twice_what_it_uses(monkeypatch):
    """The measured columns of the table against what the model says of those jobs now, on the
    processor that they were measured on."""
    has_bfloat16 = re.search(r"(with|without) products in bfloat16", TABLE.read_text())[1] == "with"
    monkeypatch.setattr(resources, "multiplies_bfloat16", lambda: has_bfloat16)
    path = ROOT / "benchmarks" / "resources.py"
    spec = importlib.util.spec_from_file_location("measured_resources", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    work = float(re.search(r"a machine ([\d.]+) times as slow", TABLE.read_text())[1])
    slowness = resources.Slowness(work)
    rows = re.findall(r"^\| \w+ \|.*\|$", TABLE.read_text(), re.M)
    cells = [[float(x) for x in re.findall(r"\| ([\d.]+) (?=\|)", row)] for row in rows]
    measured = [row for row in cells if row]
    assert len(measured) == len(module.SIZES) >= 5
    for row, (*size, datasets) in zip(measured, module.SIZES, strict=True):
        steps, seconds, _, _, _, memory, *_ = row
        specification = module.training_of(*size)
        networks = datasets * len(specification.networks.starts())
        assert steps == networks * (specification.burn_in + specification.draws)
        expected = resources.training(specification, datasets)
        expected = resources.on_machine(expected, slowness)
        assert memory < resources.memory_request(expected.memory, 1) < 2 * memory, size
        assert seconds < resources.TIME_MARGIN * expected.seconds, size
        assert seconds < 60 * resources.time_request(expected.seconds, 1) < 2 * seconds, size


def test_a_slow_machine_takes_longer_to_sample_and_to_start():
    start = resources.TRAINING_START
    expected = resources.Resources(start + 100.0, 500.0)
    found = resources.on_machine(expected, resources.Slowness(3.0, 2.0))
    assert found == (2 * start + 300.0, 500.0)
    assert resources.on_machine(expected, resources.Slowness()) == expected


def test_a_machine_that_cannot_be_measured_is_said_in_words(monkeypatch):
    monkeypatch.setattr(machine.sys, "executable", "/bin/false")
    with pytest.raises(GrokphaseError, match="speed of this machine cannot be measured"):
        machine.slowness(2)


def test_the_makespan_fills_free_workers():
    assert estimation.makespan([], 3) == 0
    assert estimation.makespan([5, 1, 1, 1, 1, 1], 2) == 5
    assert estimation.makespan([1] * 10, 3) == 4
    assert estimation.makespan([3, 5], sys.maxsize) == 5


def test_an_estimate_counts_submissions_by_groups():
    need = resources.Resources(10.0, 400.0)
    jobs = [estimation.Job("train", need, 1.0)] * 1000
    profile = estimation.read_profile(ROOT / "profiles" / "slurm", 1)
    total = estimation.estimate(jobs, profile)
    assert profile.cluster
    assert total.submissions == 32
    snakemake = 1000 * estimation.JOB_SECONDS + estimation.START_SECONDS
    assert total.core_seconds == pytest.approx(10_000 + snakemake)
    assert total.wall_seconds < 200
    alone = estimation.estimate(jobs, estimation.read_profile(None, 2))
    assert alone.submissions == 0
    assert alone.wall_seconds > 5000


def test_the_first_jobs_of_an_experiment_compile_its_programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(ROOT / "config.yaml", "quick")
    name = "teacher_student"
    point = next(iter(config.experiments[name].points()))
    one = {"rule": "train", "experiment": name, "point": point, "datasets": "0-9"}
    planned = [one, {"rule": "figure", "figure": "fig1"}, one, {"rule": "all"}, one]

    def seconds():
        jobs = estimation.jobs_to_do(planned, config, workers=2)
        return [job.compilation for job in jobs if job.stage == "train"]

    expected = resources.compilation(config.training(name, point))
    assert expected > 0
    assert seconds() == [expected, expected, 0]
    shard = Path(Layout("quick").shard(name, point, "0-9"))
    shard.parent.mkdir(parents=True)
    shard.touch()
    assert seconds() == [0, 0, 0]


def test_times_scale_with_the_slowness_of_the_machine():
    """What training computes in one way; compilation, all starts and other stages in another."""
    jobs = [estimation.Job(stage, resources.Resources(10.0, 400.0), 1.0, 5.0 * (stage == "train"))
            for stage in ("dataset", "train", "figure")]  # fmt: skip
    profile, slowness = estimation.Profile(cores=2), resources.Slowness
    once = estimation.estimate(jobs, profile)
    work = 10.0 - resources.TRAINING_START
    assert work > 0
    twice = estimation.estimate(jobs, profile, slowness(work=2.0))
    assert twice.core_seconds == pytest.approx(once.core_seconds + work)
    assert twice.wall_seconds == pytest.approx(once.wall_seconds + work)
    assert twice[2:] == once[2:]
    later = estimation.estimate(jobs, profile, slowness(start=2.0))
    assert later.core_seconds == pytest.approx(2 * once.core_seconds - work)
    assert later.wall_seconds == pytest.approx(2 * once.wall_seconds - work)
    assert later[2:] == once[2:]


def test_the_machine_is_measured_within_seconds():
    """By an order of magnitude, for other work disturbs it; one process, and one on every core."""
    for found in (machine.slowness(), machine.slowness(1000)):
        assert 0.02 < found.work < 50
        assert 0.1 < found.start < 20


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("jobs: many", "jobs: 'many' is not a number"),
        ("group-components: [train=x]", "group-components: 'x' is not a number"),
        ("[jobs]", "must hold a mapping"),
    ],
)
def test_a_malformed_profile_is_named(tmp_path, text, mentions):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(GrokphaseError, match=f"--profile: .*config.yaml.*{mentions}"):
        estimation.read_profile(tmp_path, 1)


def test_a_profile_may_give_its_numbers_as_words(tmp_path):
    (tmp_path / "config.yaml").write_text("executor: slurm\njobs: unlimited\ncores: all")
    profile = estimation.read_profile(tmp_path, 1)
    assert (profile.jobs, profile.cores) == (sys.maxsize, os.cpu_count())


def test_a_profile_may_give_its_groups_as_text(tmp_path):
    (tmp_path / "config.yaml").write_text("group-components: train=32 baseline=16")
    assert estimation.read_profile(tmp_path, 1).components == {"train": 32, "baseline": 16}


def test_a_missing_profile_is_named():
    with pytest.raises(GrokphaseError, match="--profile: nowhere"):
        estimation.read_profile(Path("nowhere"), 1)


@pytest.mark.parametrize("name", ["slurm", "slurm-gpu"])
def test_the_profiles_hold_no_science(name):
    settings = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
    assert settings["executor"] == "slurm"
    assert settings["retries"] >= 1
    assert "config" not in settings


def cluster(partitions, accounts):
    answers = {"sinfo": partitions, "sacctmgr": accounts}
    return lambda command: answers[command[0]]


def test_unknown_partitions_and_accounts_are_named_with_their_keys():
    call = cluster("main\ngpu\n", "physics\nphysics\n")
    assert slurm.problems("main", "physics", "p", call) == []
    assert slurm.problems(None, None, "p", call) == []
    partition, account = slurm.problems("mian", "biology", "p", call)
    assert partition == (
        "p, default-resources, slurm_partition: this cluster has no partition mian; "
        "it has gpu, main"
    )
    assert account == (
        "p, default-resources, slurm_account: you have no account biology; you have physics"
    )
    [without] = slurm.problems("main", "physics", "p", cluster("main\n", None))
    assert "slurm_account" in without
    assert slurm.problems("main", None, "p", cluster(None, None)) == []


def test_the_status_of_a_run_is_read_from_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "config.yaml").read_text()
    text = re.sub(r"datasets_per_job: \d+", "datasets_per_job: 1", text)
    (tmp_path / "config.yaml").write_text(text)
    config = load_config(tmp_path / "config.yaml")
    points = list(config.experiments["modular_small"].points())
    base = tmp_path / "results" / "paper"

    def put(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def log(point, dataset):
        return base / "logs" / "train" / "modular_small" / point / f"{dataset}-{dataset}.log"

    def shard(point, specification):
        path = base / "modular_small" / point / "shards" / "datasets~0-0.parquet"
        write_table(path, pa.table({}), {"specification": specification})

    current = [config.training("modular_small", point).model_dump(mode="json") for point in points]
    shard(points[0], current[0])
    shard(points[2], current[2] | {"seed": 9})
    put(base / "modular_small" / points[3] / "shards" / "datasets~0-0.parquet", "damaged")
    put(log(points[0], 1), "12:00:00 50 of 160 draws, 2 draws/s, 55 s remaining\n")
    put(log(points[0], 2), "Error: training diverged\n")
    put(log(points[1], 0), "Error: stopped by SIGTERM after 9 draws; the state is saved: ...\n")
    put(log(points[1], 1), "")
    put(log(points[1], 2), "1 of 9 draws, 1 draws/s, 99999999999999999999999 s remaining\n")
    log(points[1], 2).write_bytes(log(points[1], 2).read_bytes() + b"\xff\xfe")
    # Of a job whose shard was removed afterwards.
    put(log(points[2], 1), "12:00:00 160 of 160 draws, 2 draws/s, 0 s remaining\n")
    now = log(points[1], 1).stat().st_mtime + 1
    found = {one.point: one for one in estimation.progress(config, now)
             if one.experiment == "modular_small"}  # fmt: skip
    assert found[points[0]][2:8] == (1, 1, 1, 0, 0, 0)
    assert found[points[1]][2:8] == (0, 2, 0, 0, 1, 0)
    assert found[points[2]][2:8] == (0, 0, 0, 0, 2, 1)
    assert found[points[3]][2:8] == (0, 0, 0, 0, 2, 1)
    later = {one.point: one for one in estimation.progress(config, now + 1e5)
             if one.experiment == "modular_small"}  # fmt: skip
    assert later[points[0]].slow == 1
    output = CliRunner().invoke(cli, ["status"]).output
    assert "1 done; 3 running; 1 failed" in output
    assert "training ends in about" in output
