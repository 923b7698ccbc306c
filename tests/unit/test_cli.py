"""The command line: documented, and readable where it is used wrongly."""

import contextlib
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from unittest import mock

import click
import pytest
import yaml
from click.testing import CliRunner
from grokphase.cli import cli
from grokphase.config import load_config

ROOT = Path(__file__).parents[2]
POINT = "noise~0.2/cubic_strength~-0.3"
COMMANDS = sorted(cli.commands)


def run(folder, *arguments):
    """Exit status and output of a command run in a folder."""
    with contextlib.chdir(folder), mock.patch.dict(os.environ):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        text = "".join(traceback.format_exception(result.exception))
        return result.exit_code, result.output + text
    return result.exit_code, result.output


def refused(folder, *arguments):
    """The one message of a command that must fail."""
    status, output = run(folder, *arguments)
    assert status in (1, 2), output
    assert "Traceback" not in output, output
    assert output.count("Error: ") == 1
    assert not (folder / "results").exists()
    return output.partition("Error: ")[2]


@pytest.fixture
def folder(tmp_path):
    """A folder with a tiny configuration."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    one = config["experiments"]["teacher_student"]
    one["parameters"] |= {"input_dim": 10, "width": 20, "train_size": 40}
    one["sweep"] = {"noise": [0.2, 0.3], "cubic_strength": [-0.3]}
    one["datasets"], one["subsets"], one["datasets_per_job"] = 4, 2, 2
    config["figures"] = {"fig1": {"experiment": "teacher_student"}}
    config["scales"] = {"paper": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


# --- documentation --------------------------------------------------------------------------------


def test_help_of_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "grokphase", "--help"], capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert f"\n  {name}" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_documents_every_option(tmp_path, name):
    status, output = run(tmp_path, name, "--help")
    assert status == 0
    command = cli.commands[name]
    assert command.help
    undocumented = [
        parameter.opts[0]
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert undocumented == []
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in output
        else:
            assert parameter.human_readable_name in command.help


def test_the_example_in_the_help_of_train_is_right():
    """Its names are in the shipped configuration, and its options exist."""
    text = " ".join(cli.commands["train"].help.replace("\\", "").split())
    point = text.partition("--point ")[2].split()[0]
    quick = load_config(ROOT / "config.yaml", "quick").experiments["teacher_student"]
    assert "grokphase train --scale quick --experiment teacher_student" in text
    assert point in quick.points()


def test_there_is_a_command_for_every_rule():
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    found = re.findall(r"^rule (\w+):|rule_name\(\"(\w+)\"", text, re.M)
    rules = {name for pair in found for name in pair if name}
    assert rules | {"check", "estimate", "status"} == set(COMMANDS)


def test_the_version_is_printed(tmp_path):
    status, output = run(tmp_path, "--version")
    assert status == 0
    assert "0." in output


# --- check ----------------------------------------------------------------------------------------


def test_check_says_what_a_configuration_asks_for(folder):
    status, output = run(folder, "check")
    assert status == 0
    # 2 noises x 4 datasets x 2 starts, in jobs of 2 datasets.
    assert "teacher_student: 2 points, 16 networks in 4 training jobs" in output
    assert "figures: fig1" in output


def test_check_of_a_bad_configuration_names_every_problem(folder):
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("bins: 61", "bins: 60\n      binz: 1"))
    message = refused(folder, "check")
    assert "histogram.bins: must be odd" in message
    assert "histogram.binz: there is no key 'binz'; did you mean 'bins'?" in message


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_configuration_is_named(tmp_path, name):
    options = ["--datasets", "0"] if name == "train" else []
    message = refused(tmp_path, name, "--config", "mine.yaml", *options)
    assert "there is no configuration file mine.yaml" in message


# --- wrong options --------------------------------------------------------------------------------

EXPERIMENT = ("--experiment", "teacher_student")
TRAIN = ("train", *EXPERIMENT, "--point", POINT)


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (("train", "--experiment", "teacher", "--point", POINT, "--datasets", "0"),
         "--experiment: there is no experiment 'teacher'; the configuration has"),
        (("train", *EXPERIMENT, "--point", "noise~9", "--datasets", "0"),
         f"--point: 'noise~9' is not one of teacher_student: {POINT}, noise~0.3/"),
        (("aggregate", *EXPERIMENT, "--point", "all"), "--point: 'all' is not one of"),
        (("theory", *EXPERIMENT, "--line", "cubic_strength~-0.2"),
         "--line: 'cubic_strength~-0.2' is not one of teacher_student: cubic_strength~-0.3"),
        (("figure", "--figure", "fig7"),
         "--figure: there is no figure 'fig7'; the configuration has fig1"),
        (("figure",), "--figure is missing (or give --specification)"),
        (("estimate", "fig7"), "TARGETS: there is no target 'fig7'; did you mean 'fig1'"),
        (("dataset", *EXPERIMENT, "--dataset", 4), "--dataset: teacher_student has datasets 0 to"),
        ((*TRAIN, "--datasets", "0-999999999999"), "--datasets: teacher_student has datasets 0 to"),
        (("dataset", "--dataset", 0), "--experiment is missing (or give --specification)"),
        (("dataset", *EXPERIMENT), "--dataset is missing (or give --specification)"),
        (("baseline", *EXPERIMENT), "--dataset is missing (or give --specification)"),
        (("theory", *EXPERIMENT), "--line is missing (or give --specification)"),
        (("aggregate", *EXPERIMENT), "--point is missing (or give --specification)"),
        (("summary",), "--experiment is missing (or give --specification)"),
        (("train", *EXPERIMENT, "--datasets", "0"), "--point is missing"),
        (TRAIN, "Missing option '--datasets'"),
        ((*TRAIN, "--datasets", "4-1"), "--datasets: '4-1' is not a range such as 0-4"),
        ((*TRAIN, "--datasets", "a-b"), "--datasets: 'a-b' is not a range such as 0-4"),
        ((*TRAIN, "--datasets", "-1"), "--datasets: '-1' is not a range such as 0-4"),
        ((*TRAIN, "--datasets", ""), "--datasets: '' is not a range such as 0-4"),
        ((*TRAIN, "--datasets", "0-1", "--dataset-files", "a"),
         "--dataset-files names 1 files for the 2 datasets 0-1"),
        ((*TRAIN, "--datasets", "0", "--dataset-files", "absent.npz"),
         "absent.npz does not exist; run the dataset stage first"),
        ((*TRAIN, "--datasets", "0-1", "--dataset-files", "config.yaml absent.npz"),
         "absent.npz does not exist; run the dataset stage first"),
        ((*TRAIN, "--datasets", "0", "--dataset-files", "config.yaml/0.npz"),
         "config.yaml/0.npz cannot be read: Not a directory"),
        ((*TRAIN, "--datasets", "0", "--threads", "0"), "0 is not in the range x>=1"),
        ((*TRAIN, "--datasets", "0", "--checkpoint-seconds", "-1"), "-1.0 is not in the range"),
        (("dataset", *EXPERIMENT, "--dataset", -1), "-1 is not in the range x>=0"),
        (("aggregate", *EXPERIMENT, "--point", POINT), "0-1.parquet does not exist"),
        (("aggregate", *EXPERIMENT, "--point", POINT, "--shards", "absent.parquet"),
         "absent.parquet does not exist; run the stage that writes it"),
        (("summary", *EXPERIMENT), "chains.parquet does not exist"),
        (("summary", *EXPERIMENT, "--chains", "x"), "points, and 1 tables of chains"),
        (("figure", "--figure", "fig1"), ".parquet does not exist"),
        (("aggregate", "--specification", "{}"), "--specification"),
        (("theory", "--specification", "{}"), "--specification"),
        (("dataset", "--specification", "no JSON"), "--specification"),
        (("dataset", "--specification", '{"experiment": 1}'), "--specification"),
        (("check", "--scale", "quick"), "there is no scale 'quick'; known: paper"),
        (("dataset", "--datset", 1), "No such option"),
        (("trian",), "No such command 'trian'"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(folder, arguments, mentions):
    assert mentions in refused(folder, *arguments)


def test_a_specification_makes_the_file_that_the_options_make(folder, monkeypatch):
    monkeypatch.chdir(folder)
    wanted = load_config(folder / "config.yaml").dataset("teacher_student", 1)
    assert run(folder, "dataset", *EXPERIMENT, "--dataset", 1, "--output", "a.npz")[0] == 0
    options = ("--specification", wanted.model_dump_json(), "--output", "b.npz")
    assert run(folder, "dataset", *options)[0] == 0
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()
    assert run(folder, "dataset", *EXPERIMENT, "--dataset", 1)[0] == 0
    where = folder / "results" / "paper" / "teacher_student" / "datasets" / "dataset~1.npz"
    assert where.read_bytes() == (folder / "a.npz").read_bytes()


FACTORISATIONS = """
from pathlib import Path
from grokphase.cli import _configure_jax
_configure_jax(1, Path("results"))
import time
import jax, jax.numpy as jnp
factor = jax.jit(lambda x: jnp.linalg.cholesky(x + 1e-3 * jnp.eye(len(x))))
x = factor(jnp.eye(1200)).block_until_ready()
wall, processor = time.perf_counter(), time.process_time()
for _ in range(10):
    x = factor(jnp.eye(1200)).block_until_ready()
print((time.process_time() - processor) / (time.perf_counter() - wall))
"""


def test_a_job_computes_on_no_more_threads_than_it_is_given(tmp_path):
    """Factorisations too, which are not XLA's own. (A machine of one core cannot tell.)"""
    wanted = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", FACTORISATIONS], cwd=tmp_path, env=wanted,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) < 1.3


@pytest.mark.parametrize(("stage", "has_pandas"), [("theory", False), ("figure", True)])
def test_pandas_is_for_figures_alone(tmp_path, stage, has_pandas):
    """pyarrow would import it with the first array."""
    script = (
        "import sys, click, pyarrow\n"
        "from grokphase import cli\n"
        f"sys.argv = ['grokphase', '{stage}', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "pyarrow.array([1.0])\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(has_pandas)
