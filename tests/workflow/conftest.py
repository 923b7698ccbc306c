"""Projects to run the workflow in: copies of this one, with its configuration or a tiny one."""

import contextlib
import copy
import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import yaml
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]

TINY = {
    "experiments": {
        "teacher_student": {
            "model": "teacher_student",
            "parameters": {
                "input_dim": 10,
                "width": 20,
                "train_size": 40,
                "weight_variance": 0.5,
                "readout_variance": 0.3,
            },
            "sweep": {"noise": [0.2, 0.3], "cubic_strength": [-0.3]},
            "seed": 1,
            "datasets": 2,
            "networks": {"prior": 1, "planted": 1},
            "subsets": 2,
            "datasets_per_job": 1,
            "sampler": {
                "kernel": "hamiltonian",
                "step_size": 0.3,
                "leapfrog_steps": 2,
                "burn_in": 10,
                "draws": 40,
            },
            "theory": {"lowest_noise": 0.19, "highest_noise": 0.31, "noise_points": 3},
        }
    },
    "figures": {
        "fig1": {"experiment": "teacher_student"},
        "fig2": {"experiment": "teacher_student", "baseline": 1},
    },
    "scales": {"paper": {}, "quick": {"experiments": {"teacher_student": {"seed": 2}}}},
}
"""Every stage at a size that takes no time."""

# Importing Snakemake and what it uses takes seconds: one process does and forks for every call.
SERVER = """
import json, os, sys
import pandas, smart_open, snakemake.cli, snakemake.report.html_reporter, yte
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(call["folder"])
        for number, name in enumerate((os.devnull, call["output"], call["output"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
        sys.path.insert(0, call["folder"] + "/workflow")
        sys.argv = ["snakemake", *call["arguments"]]
        snakemake.cli.main(call["arguments"])
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclasses.dataclass
class Outcome:
    """Exit status and combined output of a command."""

    status: int
    output: str

    def check_success(self):
        assert self.status == 0, self.output

    def check_failure(self, *mentions):
        """The command failed with a message that says why, and without a traceback."""
        assert self.status in (1, 2), f"exit status {self.status}\n{self.output}"
        assert "Traceback" not in self.output, self.output
        for text in mentions:
            assert text in self.output, f"{text!r} is not in the output:\n{self.output}"


@dataclasses.dataclass
class Project:
    """A copy of this project in which the workflow runs."""

    folder: Path
    call_server: Callable[[Path, list[str]], Outcome]

    @property
    def results(self):
        return self.folder / "results"

    def path(self, name):
        """A result of the experiment at the scale paper."""
        return self.results / "paper" / "teacher_student" / name

    def configure(self, changes=(), **more):
        """Write config.yaml: the tiny one with changes such as {"a.b.c": value}."""
        config = copy.deepcopy(TINY) | more
        for key, value in dict(changes).items():
            *folders, last = key.split(".")
            place = config
            for name in folders:
                place = place[name]
            place[last] = value
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def module(self, name):
        """Path of a module such as sampling/tree."""
        return self.folder / "workflow" / "grokphase" / f"{name}.py"

    def modules(self):
        return sorted((self.folder / "workflow" / "grokphase").rglob("*.py"))

    def command(self, *arguments, **options):
        """Run a Python module, such as snakemake or grokphase, here, to its end."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "workflow")}
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        return Outcome(done.returncode, done.stdout)

    def grokphase(self, *arguments):
        """Run the command line here, within the process of the tests."""
        from grokphase.cli import cli

        with contextlib.chdir(self.folder), mock.patch.dict(os.environ):
            result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        text = result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            text += "".join(traceback.format_exception(result.exception))
        return Outcome(result.exit_code, text)

    def snakemake(self, *arguments):
        """Run Snakemake here, in a fork of a process that has imported it."""
        return self.call_server(self.folder, ["--cores", "2", *map(str, arguments)])

    def plan(self, *arguments):
        """What a run would do: rule -> its jobs' first outputs."""
        jobs = {}
        for rule, lines in self.planned(*arguments):
            output = re.search(r"^    output: ([^,\n]+)", lines, re.M)
            jobs.setdefault(rule, set()).add(output[1] if output else "")
        return jobs

    def planned(self, *arguments):
        """Rule of every job that a run would do, and the lines that say what it is."""
        outcome = self.snakemake("--dry-run", *arguments)
        outcome.check_success()
        block = r"^(?:local)?rule (\w+):\n((?:    .*\n)*)"
        jobs = re.findall(block, outcome.output, re.M)
        assert bool(jobs) != ("Nothing to be done" in outcome.output), outcome.output
        return jobs

    def files(self):
        """Path -> content of every result; not the logs, nor how long jobs took."""
        return {
            str(path.relative_to(self.results)): path.read_bytes()
            for path in sorted(self.results.rglob("*"))
            if path.is_file()
            and path.relative_to(self.results).parts[1] not in ("logs", "benchmarks")
        }


@pytest.fixture(scope="session")
def call_server(tmp_path_factory):
    output = tmp_path_factory.mktemp("server") / "output"
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def call(folder, arguments):
            output.write_text("")
            request = {"folder": str(folder), "output": str(output), "arguments": arguments}
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            return Outcome(int(server.stdout.readline()), output.read_text())

        yield call
        server.stdin.close()


@pytest.fixture(scope="session")
def new_project(call_server):
    """Function: make a copy of this project, without results, in a folder."""

    def make(folder):
        folder.mkdir()
        for name in ("Snakefile", "config.yaml"):
            shutil.copy2(ROOT / name, folder)
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("rules", "profiles", "workflow", "envs"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        return Project(folder, call_server)

    return make


@pytest.fixture
def shipped(new_project, tmp_path):
    """A new project with the configuration as it is."""
    return new_project(tmp_path / "project")


@pytest.fixture
def project(shipped):
    """A new project with the tiny configuration."""
    shipped.configure()
    return shipped


@pytest.fixture(scope="session")
def run_once(new_project, call_server, tmp_path_factory, request):
    """Function: a project of a name, run to the end by Snakemake's own command; not to be changed.

    Of several processes of tests the first that wants it runs it.
    """
    common = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        common = common.parent

    def run(name, configure, *options):
        folder = common / name
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                project = new_project(tmp_path_factory.mktemp(name) / "project")
                configure(project)
                project.command("snakemake", "--cores", 2, *options).check_success()
                project.folder.rename(folder)
        return Project(folder, call_server)

    return run


@pytest.fixture(scope="session")
def finished_once(run_once):
    """The tiny configuration."""
    return run_once("finished", Project.configure)


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy of the finished tiny project, to be changed at will."""
    shutil.copytree(finished_once.folder, tmp_path / "finished")
    return dataclasses.replace(finished_once, folder=tmp_path / "finished")


@pytest.fixture(scope="session")
def quick_once(run_once):
    """The shipped configuration at its quick scale, as in the README."""
    return run_once("quick", lambda shipped: None, "--config", "scale=quick")


@pytest.fixture
def mounted():
    """Function: the start of a command line that mounts something for this command alone."""

    def command(script):
        line = ["unshare", "--mount", "sh", "-c", script + ' && shift 0 && exec "$@"', "sh"]
        if subprocess.run([*line, "true"], capture_output=True).returncode:
            pytest.skip("mounting needs more rights")
        return line

    return command
