"""Training that fails or is interrupted keeps what was finished, and can be resumed."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from grokphase.sampling.checkpoint import Checkpoint

POINT = "noise~0.2/cubic_strength~-0.3"
SHARD = f"{POINT}/shards/datasets~0-0.parquet"
EXPERIMENT = "experiments.teacher_student"


def test_a_diverging_step_size_is_named_and_the_rest_is_kept(finished):
    """Of two experiments one diverges: the other one's files and figures stay as they are."""
    before = finished.files()
    config = yaml.safe_load((finished.folder / "config.yaml").read_text())
    diverging = config["experiments"]["teacher_student"] | {
        "networks": {"prior": 1, "planted": 0},
        "datasets_per_job": 2,
        "sampler": {"kernel": "isotropic_langevin", "step_size": 50, "burn_in": 50, "draws": 10},
    }
    diverging["sweep"] = {"noise": [0.25], "cubic_strength": [-0.1]}
    finished.configure({"experiments.diverging": diverging})
    outcome = finished.snakemake()
    outcome.check_failure(
        "Error: training at noise~0.25/cubic_strength~-0.1, dataset 0: the dynamics diverged "
        "between steps",
        "'step_size': 50.0",
        "choose a smaller step_size in experiments.diverging.sampler",
    )
    after = finished.files()
    assert {name: after.get(name) for name in before} == before
    assert {name for name in after if name not in before} == {
        f"paper/diverging/datasets/dataset~{dataset}.npz" for dataset in (0, 1)
    }


def test_a_checkpoint_that_cannot_be_written_is_not_called_divergence(finished):
    blocked = finished.folder / "blocked"
    blocked.write_text("")
    outcome = finished.grokphase(
        *("train", "--experiment", "teacher_student", "--point", POINT, "--datasets", "0"),
        *("--checkpoint-seconds", 0, "--checkpoints", blocked),
    )
    outcome.check_failure("cannot write", str(blocked))
    assert "step_size" not in outcome.output


class Training:
    """A training job of some seconds in a process, with a checkpoint as often as possible."""

    DRAWS = 10_000
    BURN_IN = 10

    def __init__(self, project):
        self.project = project
        self.output = project.folder / "shard.parquet"
        self.checkpoints = project.folder / "checkpoints"
        project.configure({f"{EXPERIMENT}.sampler.draws": self.DRAWS})

    def command(self, *options):
        return [
            *(sys.executable, "-m", "grokphase", "train", "--experiment", "teacher_student"),
            *("--point", POINT, "--datasets", "0-1", "--checkpoint-seconds", "0", *options),
            *("--checkpoints", str(self.checkpoints), "--output", str(self.output)),
        ]

    def forget(self):
        """Remove what the job wrote."""
        self.output.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def start(self, *options):
        return subprocess.Popen(
            self.command(*options),
            cwd=self.project.folder,
            env={**os.environ, "PYTHONPATH": str(self.project.folder / "workflow")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def complete(self):
        """Run to the end; the shard's content."""
        process = self.start()
        output, _ = process.communicate()
        assert process.returncode == 0, output.decode()
        return self.output.read_bytes()

    def wait(self, process, draws):
        """Wait until the process has written a checkpoint that holds so many draws."""
        start = time.time()
        while process.poll() is None:
            for path in self.checkpoints.glob("*.checkpoint"):
                if path.stat().st_mtime > start and self.draws() >= draws:
                    return self.draws()
            time.sleep(0.003)
        raise AssertionError(process.stdout.read().decode())

    def draws(self):
        """Draws that the checkpoint holds, over both datasets, with burn-in."""
        [path] = self.checkpoints.glob("*.checkpoint")
        key = path.read_bytes().split(b"\n")[0].split()[1].decode()
        arrays = Checkpoint(path, key).load()
        finished = sum(name.endswith("/acceptance") for name in arrays if "finished" in name)
        return finished * (self.BURN_IN + self.DRAWS) + int(arrays.get("current/done", 0))

    def left_behind(self):
        return [path.name for path in self.checkpoints.iterdir()]


@pytest.fixture(scope="module")
def undisturbed(finished_once, tmp_path_factory):
    """The shard that this training writes if nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(finished_once.folder, folder)
    return Training(dataclasses.replace(finished_once, folder=folder)).complete()


def wait_for_line(process, text):
    """Wait until the process has written a line with this text."""
    for line in process.stdout:
        if text in line.decode():
            return
    raise AssertionError(f"{text!r} was not written")


def test_killed_training_resumes_to_the_same_bytes(finished, undisturbed):
    """Killed at three random moments, then left alone."""
    job = Training(finished)

    generator = random.Random(7)
    reached = 0
    for first, last in ((1000, 5000), (6000, 9000), (11_000, 15_000)):
        process = job.start()
        assert job.wait(process, 0) > reached, "it started from nothing"
        job.wait(process, generator.randrange(first, last))
        time.sleep(generator.uniform(0, 0.1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not job.output.exists()
        reached = job.draws()
        print(f"killed after {reached} draws of {2 * (job.BURN_IN + job.DRAWS)}")
    assert reached > job.DRAWS
    assert job.complete() == undisturbed
    [left] = job.left_behind()
    assert left.endswith(".checkpoint")


def test_a_finished_job_writes_its_shard_again_from_its_state(finished, undisturbed):
    """As after a group of jobs of which one failed: nothing finished is trained again."""
    job = Training(finished)
    assert job.complete() == undisturbed
    job.output.unlink()
    process = job.start()
    output = process.communicate()[0].decode()
    total = 2 * (job.BURN_IN + job.DRAWS)
    assert f"continuing after {total} of {total} draws" in output
    assert "draws/s" not in output
    assert job.output.read_bytes() == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_the_state_and_means_again(finished, undisturbed, number):
    """Exit status 75, no checkpoint but the one the signal caused, and the same bytes at last."""
    job = Training(finished)
    generator = random.Random(int(number))
    stops, reached = 0, 0
    while stops < 3:
        if stops == 0:
            process = job.start()
            job.wait(process, 500)
        else:
            process = job.start("--checkpoint-seconds", "3600")
            wait_for_line(process, "continuing after")
        time.sleep(generator.uniform(0, 0.2))
        process.send_signal(number)
        output = process.communicate()[0].decode()
        if process.returncode == 0:
            break
        assert process.returncode == 75, output
        assert f"Error: stopped by {number.name} after {job.draws()} of" in output
        assert "Traceback" not in output
        assert job.draws() >= reached
        stops, reached = stops + 1, job.draws()
    assert stops
    assert job.complete() == undisturbed


def test_two_copies_of_a_job_do_not_harm_each_other(finished, undisturbed):
    """Started together, saving at every block; one is killed now and then and started again."""
    job = Training(finished)
    generator = random.Random(11)
    first, second = job.start(), job.start()
    for _ in range(2):
        job.wait(second, 0)
        time.sleep(generator.uniform(0, 1))
        second.kill()
        second.wait()
        second = job.start()
    for process in (first, second):
        output = process.communicate()[0].decode()
        assert process.returncode == 0, output
        assert "damaged" not in output
    assert job.output.read_bytes() == undisturbed


def test_flipped_bytes_in_checkpoints_are_named_and_change_nothing(finished, undisturbed):
    job = Training(finished)
    generator = random.Random(5)
    for both in (False, True):
        process = job.start()
        job.wait(process, 500)
        job.wait(process, job.draws() + 1)
        process.kill()
        process.wait()
        paths = [path for path in job.checkpoints.iterdir() if not path.name.startswith(".")]
        for path in paths if both else [p for p in paths if p.suffix == ".checkpoint"]:
            content = bytearray(path.read_bytes())
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
            path.write_bytes(content)
        process = job.start("--checkpoint-seconds", "3600")
        output = process.communicate()[0].decode()
        assert f"{path.name} is damaged" in output
        assert ("continuing after" in output) == (not both)
        assert job.output.read_bytes() == undisturbed
        job.forget()


def test_a_full_disk_during_training_keeps_the_state_for_later(finished, undisturbed, mounted):
    """The results lie on a small disk that fills up; with room again, the same command ends."""
    job = Training(finished)
    disk = finished.folder / "disk"
    disk.mkdir()
    command = " ".join(job.command("--checkpoint-seconds", "0"))
    inner = f"""
        mount -t tmpfs -o size=16m none {disk} && mkdir {disk}/checkpoints
        ({command}; echo status $?) &
        until ls {disk}/checkpoints | grep -q checkpoint; do sleep 0.02; done
        head -c 16m /dev/zero > {disk}/fill; wait
        ls -A {disk}; rm {disk}/fill; {command} && cat {disk}/shard.parquet > {finished.folder}/copy
    """.replace(str(job.checkpoints), f"{disk}/checkpoints").replace(
        str(job.output), f"{disk}/shard.parquet"
    )
    line = mounted("true")
    done = subprocess.run(
        [*line, "sh", "-c", inner],
        cwd=finished.folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(finished.folder / "workflow")},
    )
    assert "status 1" in done.stdout, done.stdout + done.stderr
    assert "No space left on device; check the permissions and the free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert (finished.folder / "copy").read_bytes() == undisturbed


# Saves checkpoint 3 in a process that dies at its n-th access to the file system, for every n; then
# saves 4 to 6 and removes. Prints what went wrong.
DIE_AT_EVERY_STEP = """
import os, sys
from pathlib import Path
import numpy as np
from grokphase.sampling.checkpoint import Checkpoint

def die_at(step):
    left = [step]
    def hook(event, arguments):
        if event == "open" or event.startswith("os."):
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
    sys.addaudithook(hook)

def value(number):
    return {"value": np.full(100, number)}

for step in range(1, 100):
    checkpoint = Checkpoint(Path(sys.argv[1]) / str(step) / "a", "key")
    checkpoint.save(value(1))
    checkpoint.save(value(2))
    child = os.fork()
    if child == 0:
        die_at(step)
        checkpoint.save(value(3))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = checkpoint.load()["value"][0]
    if found not in (2, 3):
        print(f"killed at step {step}: checkpoint {found} is loaded")
    try:
        for number in (4, 5, 6):
            checkpoint.save(value(number))
            assert checkpoint.load()["value"][0] == number
    except Exception as error:
        print(f"killed at step {step}: {error}")
    checkpoint.remove()
    if left := [path.name for path in checkpoint.path.parent.iterdir()]:
        print(f"killed at step {step}: {left} stay behind")
    if status == 0:
        break
assert step > 5, "nothing was killed"
"""


def test_a_checkpoint_killed_at_any_step_is_whole_and_can_go_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DIE_AT_EVERY_STEP, tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def test_a_killed_workflow_goes_on_after_unlocking(finished, finished_once):
    """As the README says: a readable message, --unlock, and then the same files."""
    shard = finished.path(SHARD)
    shard.unlink()
    # Snakemake does not aggregate again a shard whose bytes have not changed.
    aggregates = sorted(shard.parents[1].glob("*.parquet"))
    for aggregate in aggregates:
        aggregate.unlink()
    target = shard.relative_to(finished.folder)
    log = finished.results / "paper" / "logs" / "train" / "teacher_student" / POINT / "0-0.log"
    log.unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", target],
        cwd=finished.folder,
        env={**os.environ, "PYTHONPATH": str(finished.folder / "workflow")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not log.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not shard.exists()
    finished.snakemake(target).check_failure("--unlock")
    finished.snakemake("--unlock").check_success()
    finished.snakemake(target).check_success()
    assert shard.read_bytes() == finished_once.path(SHARD).read_bytes()
    assert len(list(finished.path("checkpoints").glob("*"))) == 1
    finished.snakemake(*(path.relative_to(finished.folder) for path in aggregates)).check_success()
    assert not list(finished.path("checkpoints").glob("*"))
