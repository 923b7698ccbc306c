"""Wrong files, folders, environments and configurations end in one readable message."""

import base64
import os
import random
import shutil
import subprocess
import sys

import pytest

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
    for name in ("histogram", "outputs", "chains"):
        path = finished.path(f"{POINT}/{name}.parquet")
        own = path.read_bytes()
        shutil.copy(finished.path(f"{OTHER}/{name}.parquet"), path)
        figure = finished.grokphase("figure", "--figure", "fig1")
        figure.check_failure(f"{POINT}/{name}.parquet is not the table of {POINT}", "delete it")
        if name == "chains":
            summary = finished.grokphase("summary", "--experiment", "teacher_student")
            summary.check_failure(f"{POINT}/chains.parquet is of {OTHER}, not of {POINT}")
        path.write_bytes(own)


def test_figures_judge_their_points_by_the_bounds_of_the_configuration(finished):
    """Open markers, a line of the legend and of the log, for bounds that nothing meets."""
    drawings = []
    for ess in (1, 1e6):
        finished.configure(
            {f"{EXPERIMENT}.convergence": {"ess": ess, "nested_rhat": 1e6, "drift": 1e6}}
            | {f"{EXPERIMENT}.sampler.draws": 8}
        )
        finished.snakemake("fig1").check_success()
        drawings.append((finished.results / "paper" / "figures" / "fig1.svg").read_bytes())
        log = (finished.results / "paper" / "logs" / "figure" / "fig1.log").read_text()
        assert ("NOT CONVERGED" in log) == (ess > 1)
    assert drawings[0] != drawings[1]


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
