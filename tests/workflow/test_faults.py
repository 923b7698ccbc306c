"""What goes wrong ends in one readable message, keeps what was finished, and can be resumed."""

import base64
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
OTHER = "noise~0.3/cubic_strength~-0.3"
SHARD = f"{POINT}/shards/datasets~0-0.parquet"
EXPERIMENT = "experiments.teacher_student"


# --- damaged and wrong files ----------------------------------------------------------------------


def aggregate(project):
    return project.grokphase("aggregate", "--experiment", "teacher_student", "--point", POINT)


@pytest.mark.parametrize("kept", [0, 3, 1000, -1])
def test_a_truncated_shard_is_named(finished, kept):
    shard = finished.path(SHARD)
    shard.write_bytes(shard.read_bytes()[:kept])
    before = finished.files()
    aggregate(finished).check_failure(str(shard.relative_to(finished.folder)), "delete it")
    assert finished.files() == before


def test_a_flipped_bit_in_a_shard_is_never_aggregated(finished):
    """Refused by name, or in a place that holds no data."""
    shard = finished.path(SHARD)
    whole, before = shard.read_bytes(), finished.files()
    generator = random.Random(4)
    for position in generator.sample(range(len(whole)), 30):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << generator.randrange(8)
        shard.write_bytes(damaged)
        outcome = aggregate(finished)
        shard.write_bytes(whole)
        if outcome.status:
            outcome.check_failure(str(shard.relative_to(finished.folder)), "delete it")
        assert finished.files() == before, f"byte {position}: aggregated as if it were whole"


def test_a_truncated_aggregate_is_named(finished):
    table = finished.path(f"{POINT}/outputs.parquet")
    table.write_bytes(table.read_bytes()[:-100])
    before = finished.files()
    outcome = finished.grokphase("figure", "--figure", "fig2")
    outcome.check_failure(f"{POINT}/outputs.parquet is truncated or damaged")
    assert finished.files() == before


def test_a_damaged_table_is_made_anew_once_deleted(finished):
    """As its message says: the tables of its point, and the figures, though they are there."""
    finished.path(f"{POINT}/outputs.parquet").unlink()
    jobs = finished.plan("fig1", "fig2")
    assert set(jobs) == {"aggregate", "figure", "fig1", "fig2"}
    assert jobs["aggregate"] == {f"results/paper/teacher_student/{POINT}/histogram.parquet"}


def test_a_damaged_shard_costs_its_point_nothing_once_deleted(finished):
    """Snakemake removes the tables of the job that met the damage; they are all made anew."""
    before = finished.files()
    shard = finished.path(SHARD)
    shard.write_bytes(shard.read_bytes()[:-50])
    finished.snakemake("fig1").check_failure("delete it and run again")
    shard.unlink()
    finished.snakemake().check_success()
    after = finished.files()
    assert {name: after.get(name) for name in before} == before


def test_tables_of_another_point_are_refused(finished):
    for name in ("histogram", "outputs", "diagnostics"):
        shutil.copy(finished.path(f"{OTHER}/{name}.parquet"), finished.path(POINT))
    figure = finished.grokphase("figure", "--figure", "fig1")
    figure.check_failure(f"{POINT}/histogram.parquet is not the table of {POINT}", "delete it")
    summary = finished.grokphase("summary", "--experiment", "teacher_student")
    summary.check_failure(f"{POINT}/diagnostics.parquet is of {OTHER}, not of {POINT}")


def test_theory_and_baselines_of_other_settings_are_refused(finished):
    """Tables that lie in the place of others, or are of a stage run by hand."""
    theory = finished.path("theory/cubic_strength~-0.3")
    own = {path: path.read_bytes() for path in theory.iterdir()}
    finished.configure({f"{EXPERIMENT}.parameters.width": 9})
    line = ("--experiment", "teacher_student", "--line", "cubic_strength~-0.3")
    assert finished.grokphase("theory", *line).status == 0
    finished.configure({})
    figure = finished.grokphase("figure", "--figure", "fig1")
    figure.check_failure("cubic_strength~-0.3/branches.parquet was made with width=9", "delete it")
    for path, content in own.items():
        path.write_bytes(content)
    output = finished.path("baseline") / "dataset~0.parquet"
    other = ("--experiment", "teacher_student", "--dataset", 1, "--output", output)
    assert finished.grokphase("baseline", *other).status == 0
    figure = finished.grokphase("figure", "--figure", "fig2")
    figure.check_failure("dataset~0.parquet is of dataset 1", "delete it")


def test_results_copied_without_their_record_are_compared(finished):
    """Snakemake would take them for current, whatever they were made with."""
    record = finished.folder / ".snakemake"
    shutil.rmtree(record)
    assert finished.snakemake().status == 0
    shutil.rmtree(record)
    finished.configure({f"{EXPERIMENT}.parameters.width": 9})
    message = ("tables under results/paper were made with other settings", ".snakemake")
    finished.snakemake().check_failure(*message)
    # Aggregates are made with more than shards are.
    finished.configure({f"{EXPERIMENT}.convergence": {"ess": 5}})
    finished.snakemake().check_failure(*message, "histogram.parquet")
    finished.configure({f"{EXPERIMENT}.parameters.width": 9})
    # Once another run has left a record, and for theory alone.
    (record / "metadata").mkdir(parents=True)
    (record / "metadata" / "another").touch()
    finished.snakemake().check_failure(*message)
    for folder in ("noise~0.2", "noise~0.3", "baseline"):
        shutil.rmtree(finished.path(folder))
    finished.snakemake().check_failure(*message, "theory")
    # What a killed run has left incomplete is made anew by Snakemake, without being deleted.
    for path in finished.path("theory").rglob("*.parquet"):
        name = str(path.relative_to(finished.folder)).encode()
        (record / "incomplete").mkdir(exist_ok=True)
        (record / "incomplete" / base64.urlsafe_b64encode(name).decode()).touch()
    assert "theory" in finished.plan("--rerun-incomplete")


@pytest.mark.parametrize("stage", ["train", "baseline"])
def test_a_dataset_of_other_parameters_is_refused(finished, stage):
    finished.configure({f"{EXPERIMENT}.parameters.train_size": 50})
    before = finished.files()
    options = ["--experiment", "teacher_student"]
    options += ["--dataset", 0] if stage == "baseline" else ["--point", POINT, "--datasets", "0"]
    outcome = finished.grokphase(stage, *options)
    outcome.check_failure("dataset~0.npz was made with other parameters", "50", "40", "delete it")
    assert finished.files() == before


def test_the_networks_of_other_datasets_are_refused(finished):
    """A shard in the place of another one."""
    shutil.copy(finished.path(SHARD), finished.path(SHARD.replace("0-0", "1-1")))
    aggregate(finished).check_failure(POINT, "datasets [0]", "2 datasets are wanted")


# --- places that cannot be written ----------------------------------------------------------------


def test_results_that_are_a_file(project):
    project.results.write_text("")
    outcome = project.snakemake()
    outcome.check_failure("results cannot be written", str(project.results), "--directory")
    assert project.results.read_text() == ""


def test_results_that_lead_nowhere(project):
    """A link to a disk that is not mounted."""
    project.results.symlink_to("/nowhere/scratch")
    project.snakemake().check_failure("results leads to /nowhere/scratch, which is not there")


def test_an_output_that_is_a_folder(project):
    options = ("--experiment", "teacher_student", "--dataset", 0, "--output", ".")
    project.grokphase("dataset", *options).check_failure("cannot write '.'", "name a file")


def test_a_file_of_another_kind_is_not_to_be_deleted(finished):
    options = ("--experiment", "teacher_student", "--point", POINT, "--shards", "config.yaml")
    outcome = finished.grokphase("aggregate", *options)
    outcome.check_failure("config.yaml is no Parquet file")
    assert "delete" not in outcome.output


def test_a_folder_whose_name_the_shell_could_misread(new_project, tmp_path):
    odd = new_project(tmp_path / "odd 'q\" é $x")
    odd.configure()
    odd.snakemake("results/paper/teacher_student/datasets/dataset~0.npz").check_success()


@pytest.mark.parametrize("name", ["a:b", "{x}"])
def test_a_folder_whose_name_would_be_divided_or_filled_in(new_project, tmp_path, name):
    new_project(tmp_path / name).snakemake("-n").check_failure(name, "rename it")


# --- environments ---------------------------------------------------------------------------------


def test_the_package_is_that_of_the_folder(project):
    """Not that of the project whose environment is active."""
    config = project.module("config")
    config.write_text('raise SystemExit("the code of this folder")\n' + config.read_text())
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "snakemake", "-n"]
    options = {"cwd": project.folder, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    assert "the code of this folder" in done.stdout + done.stderr


def train(project, output):
    options = ("--experiment", "teacher_student", "--point", POINT, "--datasets", "0-0")
    return project.command(
        *("grokphase", "train", *options),
        *("--checkpoints", "elsewhere", "--output", output),
    )


def test_variables_of_jax_do_not_change_the_networks(finished, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("JAX_THREEFRY_PARTITIONABLE", "0")
    output = finished.folder / "shard.parquet"
    train(finished, output).check_success()
    assert output.read_bytes() == finished.path(SHARD).read_bytes()


def test_a_device_that_there_is_not_is_named(finished, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    train(finished, "shard.parquet").check_failure("JAX finds no device", "JAX_PLATFORMS")


def test_settings_of_matplotlib_do_not_change_figures(finished, monkeypatch):
    settings = finished.folder / "matplotlibrc"
    settings.write_text("text.usetex: True\naxes.facecolor: pink\nlines.linestyle: --\n")
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    folder = finished.results / "paper" / "figures"
    wanted = {path: path.read_bytes() for path in (folder / "fig1.svg", folder / "fig1.png")}
    for path in wanted:
        path.unlink()
    finished.command("grokphase", "figure", "--figure", "fig1").check_success()
    assert {path: path.read_bytes() for path in wanted} == wanted


def test_a_quiet_profile_hides_no_job_from_the_estimate(project):
    profile = project.folder / "profiles" / "default" / "config.yaml"
    profile.write_text(profile.read_text() + "quiet: rules\n")
    code = "from grokphase.estimation import planned_jobs; from pathlib import Path; "
    code += "print(len(planned_jobs(['fig1'], 'paper', Path('config.yaml'))), 'jobs')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(project.folder / "workflow")},
        capture_output=True,
        text=True,
    )
    assert int(done.stdout.split()[0]) > 5, done.stderr


@pytest.fixture
def mounted():
    """Function: the start of a command line that mounts something for this command alone."""

    def command(script):
        line = ["unshare", "--mount", "sh", "-c", script + ' && shift 0 && exec "$@"', "sh"]
        if subprocess.run([*line, "true"], capture_output=True).returncode:
            pytest.skip("mounting needs more rights")
        return line

    return command


def run(line, *arguments, folder):
    return subprocess.run(
        [*line, sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder / "workflow")},
    )


def test_results_on_a_read_only_disk(project, mounted):
    project.results.mkdir()
    results = project.results
    line = mounted(f"mount --bind {results} {results} && mount -o remount,ro,bind {results}")
    done = run(line, "snakemake", "--cores", 1, folder=project.folder)
    assert done.returncode == 1
    assert f"results cannot be written: {results}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(results.iterdir())


def test_results_without_permission(project):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    project.results.mkdir(mode=0o500)
    project.snakemake().check_failure("results cannot be written", str(project.results))


def test_a_full_disk_is_named_and_nothing_half_written_stays(shipped, mounted):
    disk = shipped.folder / "disk"
    disk.mkdir()
    line = mounted(f"mount -t tmpfs -o size=64k none {disk}")
    inner = [*line, "sh", "-c", f'"$@"; status=$?; ls -A {disk}; exit $status', "sh"]
    done = run(
        inner,
        *("grokphase", "dataset", "--experiment", "teacher_student", "--dataset", 0),
        *("--output", disk / "dataset.npz"),
        folder=shipped.folder,
    )
    assert done.returncode == 1
    assert f"Error: cannot write {disk / 'dataset.npz'}: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("stage", "blocked"),
    [
        (("dataset", "--experiment", "teacher_student", "--dataset", 0), "datasets"),
        (("aggregate", "--experiment", "teacher_student", "--point", POINT), None),
        (("theory", "--experiment", "teacher_student", "--line", "cubic_strength~-0.3"), "theory"),
        (("figure", "--figure", "fig2"), "../figures"),
    ],
)
def test_a_stage_that_cannot_write_says_so(finished, stage, blocked):
    """A file is in the place of the output's folder."""
    options = ()
    if blocked is None:
        blocked, options = "blocked", ("--output-folder", finished.path("blocked"))
    shutil.rmtree(finished.path(blocked), ignore_errors=True)
    finished.path(blocked).write_text("")
    outcome = finished.grokphase(*stage, *options)
    outcome.check_failure("cannot write", blocked.removeprefix("../"), "check the permissions")


# --- wrong configurations and targets through Snakemake -------------------------------------------


def test_a_bad_configuration_is_one_message(project):
    project.configure({f"{EXPERIMENT}.sampler.steps": 3, f"{EXPERIMENT}.sweep.noise": [0.2, -1]})
    outcome = project.snakemake()
    outcome.check_failure(
        "Error: the configuration is not valid",
        "experiments.teacher_student.sweep.noise.1: input should be greater than 0 (got -1)",
        "experiments.teacher_student.sampler.steps: there is no key 'steps'",
    )
    assert not project.results.exists()


def test_a_broken_configuration_file_is_one_message(project):
    (project.folder / "config.yaml").write_text("experiments: [1, 2\nfigures: }")
    project.snakemake().check_failure("Config file is not valid JSON or YAML")


def test_a_configuration_of_another_encoding_is_one_message(project):
    path = project.folder / "config.yaml"
    path.write_bytes("# Réseaux\n".encode("latin-1") + path.read_bytes())
    project.snakemake().check_failure("config.yaml", "line 1 is not UTF-8 (b'\\xe9')", "save it as")


def test_a_configuration_with_a_key_given_twice_is_refused(project):
    """YAML would silently take the last."""
    path = project.folder / "config.yaml"
    path.write_text(path.read_text() + "figures: {}\n")
    project.snakemake().check_failure("config.yaml is not valid", "figures was given before, in")


def test_a_missing_configuration_file_is_named(project):
    (project.folder / "config.yaml").unlink()
    project.snakemake().check_failure("config.yaml")


def test_an_unknown_scale_is_named(project):
    outcome = project.snakemake("--config", "scale=quik")
    outcome.check_failure("there is no scale 'quik'; did you mean 'quick'?")


def test_an_unknown_target_is_named(project):
    project.snakemake("fig9").check_failure("fig9")


# --- failing and interrupted training -------------------------------------------------------------


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
