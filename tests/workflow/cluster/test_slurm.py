"""The workflow on a real SLURM of two nodes: same bytes, few submissions, faults survived."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from grokphase.resources import TIME_MARGIN
from slurm import wait_for

EXPERIMENT = "experiments.teacher_student"
PROFILE = ("--profile", "profiles/slurm", "--latency-wait", "5")
FAST_STATUS = ("--slurm-init-seconds-before-status-checks", "2")
LONG = {f"{EXPERIMENT}.sampler.draws": 8_000}


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


@pytest.fixture(scope="module")
def time_limit(slurm, new_project, tmp_path_factory):
    """A training job without end under a limit of one minute, which runs beside the other tests."""
    project = new_project(tmp_path_factory.mktemp("limit") / "project")
    project.configure({f"{EXPERIMENT}.sampler.draws": 10**8})
    project.grokphase("dataset", "--experiment", "teacher_student", "--dataset", 0)
    command = [
        *(sys.executable, "-m", "grokphase", "train", "--experiment", "teacher_student"),
        *("--point", "noise~0.2/cubic_strength~-0.3", "--datasets", "0"),
        *("--checkpoint-seconds", "3600"),
    ]
    environment = slurm.environment | {"PYTHONPATH": str(project.folder / "workflow")}
    arguments = ("--parsable", "--time=1", "--mem=600", f"--output={project.folder}/limit.log")
    done = subprocess.run(
        ["sbatch", *arguments, f"--chdir={project.folder}", f"--wrap=srun {' '.join(command)}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return project, command, done.stdout.strip()


def test_the_whole_run_is_that_of_this_machine(slurm, time_limit, project, finished_once):
    """Figures and tables byte for byte, with one submission for each kind of job."""
    before = len(slurm.sbatch_calls())
    status, output = run(slurm, project)
    assert status == 0, output + job_logs(project)
    wanted, found = finished_once.files(), results(project)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
    calls = slurm.sbatch_calls()[before:]
    assert len(calls) == 2, calls
    [training] = [call for call in calls if "train:" in call]
    assert training.count("'train:experiment") == 4
    assert "-p main" in training


@pytest.mark.slow
def test_every_fault_ends_in_the_same_bytes(slurm, new_project, tmp_path):
    """One job cancelled, one requeued, one whose node dies, and Snakemake killed among them."""
    local = new_project(tmp_path / "local")
    remote = new_project(tmp_path / "remote")
    for one in (local, remote):
        one.configure(LONG)
    target = "results/paper/teacher_student/diagnostics.md"
    local.snakemake(target).check_success()

    single = (target, "--group-components", "train=1")
    process = start(slurm, remote, *single)
    mine = lambda: sorted(set(slurm.running()))  # noqa: E731
    wait_for(lambda: len(mine()) >= 4, 90, "four jobs run")
    wait_for(lambda: len(list(remote.results.rglob("train/**/*.log"))) == 4, 90, "they train")
    jobs = mine()[-4:]
    time.sleep(3)
    slurm.call("scancel", jobs[0])
    slurm.call("scontrol", "requeue", jobs[1])
    slurm.kill_node("n2")
    slurm.start_node("n2")
    time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    status, output = run(slurm, remote, "--unlock")
    assert status == 0, output
    status, output = run(slurm, remote, *single, "--config", "scale=paper")
    assert status == 0, output + job_logs(remote)
    wanted, found = results(local), results(remote)
    leftover = {name for name in found if "checkpoints" in name}
    assert found.keys() - leftover == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


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


def test_a_time_limit_saves_the_state(slurm, time_limit):
    """SLURM's SIGTERM before the end of the grace period is enough; the next attempt goes on."""
    assert TIME_MARGIN > 1
    project, command, job = time_limit
    wait_for(
        lambda: "JobState=TIMEOUT" in slurm.call("scontrol", "show", "job", job).replace(" ", "\n"),
        150,
        "the time limit is reached",
    )
    log = project.folder / "limit.log"
    wait_for(lambda: "stopped by SIGTERM" in log.read_text(), 20, "the state is saved")
    [done] = re.findall(r"stopped by SIGTERM after (\d+) of", log.read_text())
    environment = {**os.environ, "PYTHONPATH": str(project.folder / "workflow")}
    process = subprocess.Popen(
        command, cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "continuing after" in line:
            break
    process.kill()
    assert f"continuing after {done} of" in line
    process.communicate()
