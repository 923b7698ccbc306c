import os
import shlex
import sys
from pathlib import Path

from grokphase.config import load_config
from grokphase.errors import GrokphaseError
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
from grokphase.provenance import code_digest

PYTHON = sys.executable


def stop(message):
    """End the run with one message, without Snakemake's traceback."""
    sys.exit(f"Error: {message}")


def checked_config():
    """The validated configuration; a problem ends the run."""
    try:
        return load_config(config)
    except GrokphaseError as error:
        stop(error)


CONFIG = checked_config()
LAYOUT = Layout(CONFIG.scale)


def check_results_folder():
    """End the run before any job if the results cannot be written."""
    folder = Path(LAYOUT.base)
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        stop(
            f"results cannot be written: {folder.resolve()} is not a folder that you may write to; "
            "change its permissions, move it away, or run in another folder with --directory"
        )


check_results_folder()

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
    experiment="[a-z][a-z0-9_]*",
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
    return code_digest(
        "grokphase.training",
        f"grokphase.models.{one.model}",
        f"grokphase.sampling.kernels.{one.sampler.kernel}",
    )


def shard_files(wildcards):
    return [
        LAYOUT.shard(wildcards.experiment, wildcards.point, range_name(datasets))
        for datasets in CONFIG.experiments[wildcards.experiment].shards()
    ]


def figure_inputs(wildcards):
    """Aggregates, theory and baseline of the points a figure draws, and nothing else."""
    figure = CONFIG.figures[wildcards.figure]
    one = CONFIG.experiments[figure.experiment]
    files = [
        LAYOUT.aggregate(figure.experiment, point, table)
        for point in (one.points(figure.select) if one.trains else ())
        for table in AGGREGATES[one.model]
    ]
    files += [
        LAYOUT.theory(figure.experiment, line, table)
        for line in one.slices(figure.select)
        for table in THEORY_TABLES[one.model]
    ]
    files += [
        LAYOUT.baseline(figure.experiment, dataset)
        for dataset in range(figure.baseline)
    ]
    return files
