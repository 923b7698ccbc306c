import atexit
import base64
import gc
import inspect
import os
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

from snakemake.resources import Resource

# The package of this folder, whichever project's environment is active: its jobs run it too.
sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from grokphase.errors import GrokphaseError

try:
    # Raises for a file among the kernels that is none, or cannot be imported.
    from grokphase.config import (
        configuration_text,
        load_config,
        read_configuration_file,
    )

    # Snakemake itself would end with a traceback.
    if Path("config.yaml").exists():
        configuration_text(Path("config.yaml"))
except GrokphaseError as error:
    sys.exit(f"Error: {error}")


configfile: "config.yaml"


from grokphase.layout import (
    AGGREGATES,
    AGGREGATION_STAGES,
    FIGURE_SUFFIXES,
    THEORY_STAGES,
    THEORY_TABLES,
    Layout,
    parse_range,
)
from grokphase.layout import range_name
from grokphase import estimation, machine, resources, slurm
from grokphase.provenance import code_digest, training_modules
from grokphase.resources import memory_request, time_request

# While jobs are planned, objects are made by the million and hardly any are dropped: looking for
# cycles among them takes a sixth of the time (5 000 shards: 20.9 s for 25.4). `onstart` ends this.
# Nor does the interpreter have to look through them when it ends (7.2 to 7.6 s for 8.5).
gc.disable()
atexit.register(gc.freeze)


def keep_signatures():
    """Store the signatures of the rules' functions with them.

    Python works them out anew whenever Snakemake asks, a hundred thousand times for 5 000 shards: an
    eighth of the time (20.1 s for 17.3).
    """
    for one in workflow.rules:
        of_resources = [getattr(r, "_evaluator", None) for r in one.resources.values()]
        for value in [*one.input, *one.params, *of_resources, one.priority]:
            function = getattr(value, "callable", value)
            if inspect.isfunction(function):
                function.__signature__ = inspect.signature(function)
    Resource.evaluate.__signature__ = inspect.signature(Resource.evaluate)


def stop(message):
    """End the run with one message, without Snakemake's traceback."""
    sys.exit(f"Error: {message}")


def checked_config():
    """The validated configuration; a problem ends the run."""
    try:
        for file in workflow.configfiles:
            read_configuration_file(Path(file))
        return load_config(config)
    except GrokphaseError as error:
        stop(error)


def check_project_folder():
    """End the run if the project's path cannot be given to the jobs."""
    for character in (os.pathsep, "{", "}"):
        if character in workflow.basedir:
            stop(
                f"the project's folder, {workflow.basedir}, has a {character} in its name, where "
                "lists of folders are split (:) or Snakemake fills in values ({}): rename it"
            )


check_project_folder()
CONFIG = checked_config()
LAYOUT = Layout(CONFIG.scale)


def check_results_folder():
    """End the run before any job if the results cannot be written."""
    folder = Path(LAYOUT.base)
    while not folder.exists():
        if folder.is_symlink():
            stop(
                f"results cannot be written: {folder} leads to {os.readlink(folder)}, which is not "
                "there: make that folder, mount its disk, or remove the link"
            )
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        stop(
            f"results cannot be written: {folder.resolve()} is not a folder that you may write to; "
            "change its permissions, move it away, or copy config.yaml to another folder and run "
            "there with --directory"
        )


check_results_folder()


def check_results_without_record():
    """End the run if tables were made with other settings and Snakemake does not know.

    What results were made with is in its own folder, which lacks those that were copied without
    it; it then takes them for current.
    """
    if not workflow.is_main_process or not Path(LAYOUT.base).is_dir():
        return
    # Files that a killed run has left incomplete are made anew without being told.
    folders = [Path(".snakemake", name) for name in ("metadata", "incomplete")]
    known = {
        name for folder in folders if folder.is_dir() for name in os.listdir(folder)
    }

    def has_no_record(path):
        name = base64.urlsafe_b64encode(str(path).encode()).decode()
        # Longer ones are divided into folders.
        return name not in known and len(name) < 200

    other = estimation.outdated_results(CONFIG, has_no_record)
    if other:
        stop(
            f"{len(other)} tables under {LAYOUT.base} were made with other settings than are "
            f"wanted, such as {other[0]}, and the folder .snakemake, from which Snakemake would "
            "know, has no record of them: copy it as well, or delete those results"
        )


check_results_without_record()


def check_cluster():
    """End the run before any job if SLURM does not know the partition or the account."""
    if workflow.executor_plugin.name != "slurm":
        return
    given = dict(
        text.split("=", 1) for text in workflow.resource_settings.default_resources.args
    )
    partition, account = given.get("slurm_partition"), given.get("slurm_account")
    problems = slurm.problems(partition, account, next(profile_names(), "the profile"))
    if problems:
        stop("\n  ".join(problems))


def weigh_jobs_only_when_one_has_ended():
    """Lift Snakemake's default limit of 100 jobs a second; any other is the user's, and stays.

    With a limit, the jobs that wait are weighed again every second, and once more in that second
    for every job that has ended so far: with 40 ended and 60 waiting that took 9 % of a core, and
    it grows with the square of their number.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def profile_names():
    """Folders given with --profile."""
    for name, value in zip(sys.argv, sys.argv[1:] + [""]):
        if name == "--profile":
            yield value
        elif name.startswith("--profile="):
            yield name.partition("=")[2]


def report_full_disk():
    """Say so if jobs failed because there is no space, which their own logs may lack."""
    free = shutil.disk_usage(LAYOUT.base).free / 2**20
    if free < 1:
        print(
            f"Error: no space is left on the disk of {Path(LAYOUT.base).resolve()} "
            f"({free:.1f} MiB free); what was finished is kept: free some space and run the same "
            "command again",
            file=sys.stderr,
        )


# Jobs run this project's package with the Python of this process, or with that of the
# deployment (conda, container) the user asked for.
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(Path(workflow.basedir) / 'workflow'))}; "
    + (
        ""
        if workflow.deployment_settings.deployment_method
        else f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
    )
)


wildcard_constraints:
    experiment="|".join(CONFIG.experiments) or "(?!)",
    figure="|".join(CONFIG.figures) or "(?!)",
    point="all|[a-z_]+~[^/~]+(/[a-z_]+~[^/~]+)*",
    line="all|[a-z_]+~[^/~]+(/[a-z_]+~[^/~]+)*",
    dataset=r"\d+",
    datasets=r"\d+-\d+",


def experiments_of(model):
    """A pattern for the names of the experiments of a model; none matches nothing."""
    names = [name for name, one in CONFIG.experiments.items() if one.model == model]
    return "|".join(names) or "(?!)"


def rule_name(stage, model):
    """Name of the rule of a stage that writes other tables for every model."""
    return stage if model == "teacher_student" else f"{stage}_{model}"


def figure_files(name):
    return [LAYOUT.figure(name, suffix) for suffix in FIGURE_SUFFIXES]


def training_code(wildcards):
    """Digest of the code that decides the trajectories of an experiment's networks."""
    one = CONFIG.experiments[wildcards.experiment]
    return code_digest(*training_modules(one.model, one.sampler.kernel))


def settings(stage, *names):
    """Settings of a job of a stage; a point, line or dataset that there is not ends the run."""
    try:
        return getattr(CONFIG, stage)(*names)
    except GrokphaseError as error:
        stop(error)


# Snakemake asks for the parameters and resources of a job several times, and the shards of a point
# share them: at thousands of jobs, planning would take minutes if each were made anew.
@cache
def training_specification(experiment, point):
    return settings("training", experiment, point).model_dump_json()


@cache
def resources_of_point(experiment, point, datasets):
    return resources.training(settings("training", experiment, point), datasets)


@cache
def slowness():
    """How slow the nodes of a cluster are, taken to be that of the machine that submits to them.

    Measured, in some seconds, by the process that submits alone. Elsewhere, in dry runs too, 1: no
    scheduler there holds a job to the time that it asks for.
    """
    if workflow.local_exec or not workflow.is_main_process:
        return resources.Slowness()
    try:
        return machine.slowness(2)
    except GrokphaseError as error:
        print(f"Warning: {error}; times are those of the reference", file=sys.stderr)
        return resources.Slowness()


def training_resources(wildcards):
    datasets = len(parse_range(wildcards.datasets))
    return resources_of_point(wildcards.experiment, wildcards.point, datasets)


def training_minutes(wildcards, attempt):
    expected = resources.on_machine(training_resources(wildcards), slowness())
    return time_request(expected.seconds, attempt)


def training_priority(wildcards):
    """From 1 to 2, the higher the longer a job takes: with the shortest last, all end together.

    Any scale of time does; a minute is halfway.
    """
    seconds = training_resources(wildcards).seconds
    return round(1 + seconds / (seconds + 60), 3)


def baseline_resources(wildcards):
    points = CONFIG.experiments[wildcards.experiment].points().values()
    return resources.baseline(next(iter(points)).train_size)


def experiments_asked_for():
    """Names of the experiments that the targets need, whether or not they are up to date."""
    named = (job.wildcards.get("experiment") for job in workflow.dag.jobs)
    return {name for name in named if name}


def shard_files(wildcards):
    return [
        LAYOUT.shard(wildcards.experiment, wildcards.point, range_name(datasets))
        for datasets in CONFIG.experiments[wildcards.experiment].shards()
    ]


def figure_inputs(wildcards):
    return tables_of_figure(wildcards.figure)


def tables_of_figure(name):
    """Aggregates, theory and baseline of the points a figure draws, and nothing else.

    The targets ask for them as well, so that a table that was deleted is made anew.
    """
    figure = CONFIG.figures[name]
    one = CONFIG.experiments[figure.experiment]
    files = [
        LAYOUT.aggregate(figure.experiment, point, table)
        for point in (one.points(figure.select) if one.trains else ())
        for table in AGGREGATES[one.model]
    ]
    files += [
        LAYOUT.theory(figure.experiment, line, table)
        for line in one.lines(figure.select)
        for table in THEORY_TABLES[one.model]
    ]
    files += [
        LAYOUT.baseline(figure.experiment, dataset)
        for dataset in range(figure.baseline)
    ]
    return files
