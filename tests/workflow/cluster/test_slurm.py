"""The workflow on a real SLURM of two nodes: same bytes, few submissions, faults survived."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from grokphase.resources import TIME_MARGIN
from slurm import wait_for

EXPERIMENT = "experiments.teacher_student"
PROFILE = ("--profile", "profiles/slurm", "--latency-wait", "5")
FAST_STATUS = ("--slurm-init-seconds-before-status-checks", "2")
TARGET = "results/paper/teacher_student/diagnostics.md"
LONG = {f"{EXPERIMENT}.sampler.draws": 30_000, f"{EXPERIMENT}.sampler.thin": 10}
LONGEST_DELAY = 5.0
"""Seconds that jobs which last half a minute have drawn, at most, when a fault hits them."""


def start(slurm, project, *arguments):
    """Snakemake on the cluster, as a process of its own session."""
    profile = () if "--profile" in arguments else PROFILE
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *profile, *FAST_STATUS, *map(str, arguments)],
        cwd=project.folder,
        env={**slurm.environment, "PYTHONPATH": str(project.folder / "workflow")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(slurm, project, *arguments):
    process = start(slurm, project, *arguments)
    output, _ = process.communicate()
    return process.returncode, output


def job_logs(project):
    folder = project.results / "slurm_logs"
    return "\n".join(path.read_text() for path in folder.rglob("*.log"))


def results(project):
    return {name: x for name, x in project.files().items() if not name.startswith("slurm_logs")}


LIMITED = {f"{EXPERIMENT}.sampler.draws": 50_000}
LIMITED_SHARD = "results/paper/teacher_student/noise~0.2/cubic_strength~-0.3/shards"
TRAIN = (
    *("grokphase", "train", "--experiment", "teacher_student"),
    *("--point", "noise~0.2/cubic_strength~-0.3", "--datasets", "0"),
)


@pytest.fixture(scope="module")
def time_limit(slurm, new_project, tmp_path_factory):
    """A training job that stands still until its limit of one minute, beside the other tests.

    Once it has drawn something its process is stopped, so that it costs nothing and cannot end; it
    goes on when SLURM has sent SIGTERM.
    """
    project = new_project(tmp_path_factory.mktemp("limit") / "project")
    project.configure(LIMITED)
    project.grokphase("dataset", "--experiment", "teacher_student", "--dataset", 0)
    command = " ".join([sys.executable, "-m", *TRAIN, "--checkpoint-seconds", "0"])
    environment = slurm.environment | {"PYTHONPATH": str(project.folder / "workflow")}
    arguments = ("--parsable", "--partition=punctual", "--time=1", "--mem=600")
    done = subprocess.run(
        ["sbatch", *arguments, f"--output={project.folder}/limit.log", f"--chdir={project.folder}",
         f"--wrap=srun sh -c 'echo $$ > process; exec {command}'"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    checkpoints = project.path("checkpoints")
    wait_for(lambda: list(checkpoints.glob("*.checkpoint")), 55, "it draws before its time limit")
    number = int((project.folder / "process").read_text())
    os.kill(number, signal.SIGSTOP)

    def go_on():
        log = project.folder / "limit.log"
        wait_for(lambda: "DUE TO TIME LIMIT" in log.read_text(), 200, "the time limit is reached")
        os.kill(number, signal.SIGCONT)

    threading.Thread(target=go_on, daemon=True).start()
    return project, done.stdout.strip()


def test_quick_figures_are_those_of_this_machine(slurm, time_limit, shipped, request):
    """With their tables, byte for byte, of both models; one submission for each kind of job.

    This machine makes its own at the same time: the cluster is often waited for.
    """
    before = len(slurm.sbatch_calls())
    process = start(slurm, shipped, "fig2", "modular_generalisation", "--config", "scale=quick")
    request.addfinalizer(process.kill)
    wanted = request.getfixturevalue("quick_once").files()
    output, _ = process.communicate()
    assert process.returncode == 0, output + job_logs(shipped)
    found = results(shipped)
    figures = {f"quick/figures/{name}.pdf" for name in ("fig2", "modular_generalisation")}
    assert figures <= found.keys() <= wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []
    calls = slurm.sbatch_calls()[before:]
    assert len(calls) == 2, output + job_logs(shipped)
    [training] = [call for call in calls if "train:" in call]
    trained = [name for name in found if "/shards/" in name]
    assert training.count("'train:experiment") == len(trained) > 4
    assert "-p main" in training


def begin(slurm, project, number, *arguments):
    """Snakemake on the cluster, once so many jobs of one shard each are drawing; and their ids."""
    before = set(slurm.running())
    process = start(slurm, project, *arguments, "--group-components", "train=1")
    wait_for(lambda: len(set(slurm.running()) - before) == number, 90, "the jobs run")
    jobs = sorted(set(slurm.running()) - before, key=int)

    def drawing():
        logs = project.results.rglob("logs/train/**/*.log")
        return sum("draws/s" in path.read_text() for path in logs) == number

    wait_for(drawing, 120, "they train")
    return process, jobs


def jobs_on(slurm, jobs, node):
    return [job for job in jobs if slurm.show(job)["NodeList"] == node]


def training_logs(project):
    return [path.read_text() for path in project.results.rglob("logs/train/**/*.log")]


def check_same_results(local, remote, leftovers=False):
    """The same files with the same bytes; copies of a job may leave checkpoints if `leftovers`."""
    wanted, found = results(local), results(remote)
    extra = {name for name in found if leftovers and "checkpoints" in name}
    assert found.keys() - extra == wanted.keys() - extra
    assert [name for name in wanted.keys() - extra if found[name] != wanted[name]] == []


@pytest.fixture(scope="module")
def undisturbed(new_project, tmp_path_factory):
    """Training of four shards that takes half a minute, on this machine."""
    project = new_project(tmp_path_factory.mktemp("undisturbed") / "project")
    project.configure(LONG)
    project.snakemake(TARGET).check_success()
    return project


@pytest.mark.slow
def test_every_fault_ends_in_the_same_bytes(slurm, undisturbed, project, attempt):
    """One job cancelled, one requeued, those of a dying node, and Snakemake killed after them."""
    project.configure(LONG)
    process, jobs = begin(slurm, project, 4, TARGET)
    generator = random.Random(attempt)
    living, dying = generator.sample(slurm.NODES, 2)
    cancelled, requeued = generator.sample(jobs_on(slurm, jobs, living), 2)
    lost = jobs_on(slurm, jobs, dying)
    assert len(lost) == 2
    time.sleep(generator.uniform(0, LONGEST_DELAY))
    slurm.call("scancel", cancelled)
    slurm.call("scontrol", "requeue", requeued)
    slurm.kill_node(dying)
    slurm.start_node(dying)
    ended = lambda: {job: slurm.states(job)[:1] for job in jobs}  # noqa: E731
    wait_for(lambda: all(ended().values()), 60, "SLURM notices")
    assert ended()[cancelled] == ["CANCELLED"]
    assert slurm.show(requeued)["Restarts"] == "1"
    assert [ended()[job] for job in lost] == [["NODE_FAIL"], ["NODE_FAIL"]]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    status, output = run(slurm, project, "--unlock")
    assert status == 0, output
    status, output = run(slurm, project, TARGET, "--group-components", "train=1")
    assert status == 0, output + job_logs(project)
    check_same_results(undisturbed, project, leftovers=True)


@pytest.mark.slow
def test_preempted_jobs_continue(slurm, undisturbed, project, attempt):
    """A job of a partition that comes first takes a node; its jobs continue when it is done."""
    project.configure(LONG)
    before = len(slurm.sbatch_calls())
    process, jobs = begin(slurm, project, 4, TARGET)
    generator = random.Random(attempt)
    node = generator.choice(slurm.NODES)
    preempted = jobs_on(slurm, jobs, node)
    assert len(preempted) == 2
    time.sleep(generator.uniform(0, LONGEST_DELAY))
    urgent = slurm.call(
        *("sbatch", "--parsable", "--partition=urgent", f"--nodelist={node}", "--exclusive"),
        *("--output=/dev/null", "--wrap=sleep 3"),
    ).strip()
    wait_for(lambda: slurm.states(urgent) == ["COMPLETED"], 60, "the urgent job ends")
    assert [slurm.states(job)[:1] for job in preempted] == [["PREEMPTED"], ["PREEMPTED"]]
    output, _ = process.communicate()
    assert process.returncode == 0, output + job_logs(project)
    for job in jobs:
        again = job in preempted
        assert slurm.states(job) == ["PREEMPTED"] * again + ["COMPLETED"]
        assert slurm.show(job)["Restarts"] == str(int(again))
    assert len(slurm.sbatch_calls()) == before + 1 + len(jobs)
    continued = [log for log in training_logs(project) if re.search(r"continuing after [1-9]", log)]
    assert len(continued) == len(preempted)
    check_same_results(undisturbed, project)


@pytest.mark.slow
def test_a_job_killed_for_memory_asks_for_more(slurm, finished_once, project, attempt):
    """The expected memory is far too low: every attempt asks for more, until it is enough."""
    project.configure()
    module = project.module("resources")
    text = module.read_text()
    changed = re.sub(r"TRAINING_MEMORY = [\d.]+", "TRAINING_MEMORY = 100.0", text)
    assert changed != text
    module.write_text(changed)
    old = set(slurm.jobs())
    status, output = run(slurm, project, TARGET, "--group-components", "train=1")
    assert status == 0, output + job_logs(project)
    attempts = {}
    for job in slurm.jobs():
        if job not in old:
            attempts.setdefault(slurm.show(job)["MinMemoryNode"], []).append(job)
    killed = set(re.findall(r"StepId=(\d+)\.\d+ exceeded memory limit", slurm.node_logs()))
    waiting = 4
    for jobs in attempts.values():
        assert len(jobs) == waiting
        ended = {job: slurm.states(job) for job in jobs}
        assert ended == {job: ["FAILED" if job in killed else "COMPLETED"] for job in jobs}
        waiting = len(killed.intersection(jobs))
    assert killed >= set(next(iter(attempts.values())))
    assert waiting == 0
    memory = [int(text.removesuffix("M")) for text in attempts]
    assert memory == sorted(memory)
    wanted, found = finished_once.files(), results(project)
    assert found.keys() <= wanted.keys()
    assert len([name for name in found if "/shards/" in name]) == 4
    assert [name for name in found if found[name] != wanted[name]] == []


@pytest.mark.slow
def test_a_gpu_is_requested(slurm, project):
    project.configure({f"{EXPERIMENT}.sweep.noise": [0.2], f"{EXPERIMENT}.datasets": 2})
    profile = (
        "--profile",
        "profiles/slurm-gpu",
        "--default-resources",
        "slurm_partition=gpu",
        "--",
    )
    target = "results/paper/teacher_student/noise~0.2/cubic_strength~-0.3/shards"
    status, output = run(
        slurm, project, *profile, f"{target}/datasets~0-0.parquet", f"{target}/datasets~1-1.parquet"
    )
    assert status == 0, output + job_logs(project)
    call = slurm.sbatch_calls()[-1]
    assert "--gpus=1" in call
    assert "-p gpu" in call


@pytest.mark.parametrize("given", ["slurm_partition=nowhere", "slurm_account=nobody"])
def test_a_wrong_partition_or_account_names_its_key(slurm, project, given):
    before = len(slurm.sbatch_calls())
    key, name = given.split("=")
    profile = project.folder / "profiles" / "slurm" / "config.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["default-resources"][key] = name
    profile.write_text(yaml.safe_dump(settings))
    status, output = run(slurm, project)
    assert status == 1
    assert f"Error: profiles/slurm, default-resources, {key}: " in output, output
    assert name in output
    assert "Traceback" not in output
    assert len(slurm.sbatch_calls()) == before
    status, output = run(slurm, project, "--dry-run", "--quiet")
    assert status == 0, f"the folder stays locked:\n{output}"


def test_a_job_that_hit_its_time_limit_continues_to_the_same_bytes(slurm, time_limit):
    """SLURM's SIGTERM before the end of the grace period is enough; the next attempt goes on."""
    assert TIME_MARGIN > 1
    project, job = time_limit
    wait_for(lambda: slurm.states(job) == ["TIMEOUT"], 150, "the time limit is reached")
    path = project.folder / "limit.log"
    wait_for(lambda: "stopped by SIGTERM" in path.read_text(), 20, "the state is saved")
    log = path.read_text()
    [(done, total)] = re.findall(r"stopped by SIGTERM after (\d+) of (\d+)", log)
    assert 0 < int(done) < int(total)

    continued = project.command(*TRAIN)
    continued.check_success()
    assert f"continuing after {done} of {total}" in continued.output
    undisturbed = project.folder / "undisturbed"
    project.command(
        *TRAIN, "--output", undisturbed / "shard.parquet", "--checkpoints", undisturbed
    ).check_success()
    shard = project.folder / LIMITED_SHARD / "datasets~0-0.parquet"
    assert shard.read_bytes() == (undisturbed / "shard.parquet").read_bytes()
