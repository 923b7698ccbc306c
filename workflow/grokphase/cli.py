"""The command line: one subcommand per stage of the pipeline.

Modules that compute are imported inside the subcommands: JAX reads its settings from the
environment when it is imported, and planning a workflow must not pay for it.
"""

import atexit
import gc
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from pydantic import TypeAdapter, ValidationError

from grokphase.errors import GrokphaseError
from grokphase.layout import (
    AGGREGATES,
    AGGREGATION_STAGES,
    FIGURE_SUFFIXES,
    THEORY_STAGES,
    THEORY_TABLES,
    Layout,
    default_cache,
    parse_range,
    range_name,
)
from grokphase.processor import ONE_THREAD_FLAGS, SHORT_PROGRAM_FLAGS
from grokphase.specifications.aggregation import AggregationSpecification
from grokphase.specifications.dataset import AnyDatasetSpecification
from grokphase.specifications.figure import FigureSpecification
from grokphase.specifications.summary import SummarySpecification
from grokphase.specifications.theory import AnyTheorySpecification, BaselineSpecification
from grokphase.specifications.training import TrainingSpecification

if TYPE_CHECKING:
    from grokphase.config import Config

PATH = click.Path(path_type=Path)
SCALE_HELP = "Scale to apply.  [default: the configuration's, or paper]"


class _Commands(click.Group):
    """Prints a GrokphaseError as one message instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GrokphaseError as error:
            _fail(str(error), error.exit_status)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="grokphase")
def cli() -> None:
    """Grokking as a first-order phase transition, regenerated and tested.

    Snakemake runs these stages in order; each can also be run by hand, on an experiment of a
    configuration file. Files are read and written where the workflow keeps them, unless an option
    says otherwise.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("grokphase").setLevel(logging.INFO)


def _selection(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that select what a stage works on, by configuration or by specification."""
    options = {
        "experiment": click.option("--experiment", help="Name of the experiment."),
        "point": click.option(
            "--point", help="Point of the sweep, such as noise~0.18/cubic_strength~-0.3."
        ),
        "line": click.option(
            "--line", help="Line of noise values, such as cubic_strength~-0.3, or all."
        ),
        "figure": click.option("--figure", help="Name of the figure."),
    }

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        common = [
            click.option(
                "--config",
                type=PATH,
                default=Path("config.yaml"),
                show_default=True,
                help="Configuration file; changes on top of config.yaml if it is another one.",
            ),
            click.option("--scale", help=SCALE_HELP),
            *[options[name] for name in names],
            click.option(
                "--specification",
                metavar="JSON",
                help="The stage's resolved settings, instead of the options above; this is what "
                "the workflow passes, and each result records its own.",
            ),
        ]
        for option in reversed(common):
            function = option(function)
        return function

    return decorate


def _configuration(file: Path, scale: str | None) -> "Config":
    """The validated configuration; the jobs of a workflow, which need none, do not import it."""
    from grokphase.config import load_config

    return load_config(file, scale)


def _needed(config: "Config", experiment: str | None, **more: str | None) -> None:
    """Check the names given on the command line against the configuration."""
    if experiment is not None and experiment not in config.experiments:
        raise GrokphaseError(
            f"--experiment: there is no experiment {experiment!r}; the configuration has "
            f"{', '.join(config.experiments)}"
        )
    for option, value in ({"experiment": experiment} | more).items():
        if value is None:
            raise GrokphaseError(f"--{option} is missing (or give --specification)")
    one = config.experiments[str(experiment)]
    for option, names in (("point", one.points()), ("line", one.lines())):
        if option in more and more[option] not in names:
            raise GrokphaseError(
                f"--{option}: {more[option]!r} is not one of {experiment}: {', '.join(names)}"
            )


def _check_datasets(option: str, config: "Config", experiment: str, indices: range) -> None:
    """Whether an experiment has these datasets."""
    last = config.experiments[experiment].datasets - 1
    if indices[-1] > last:
        raise GrokphaseError(f"--{option}: {experiment} has datasets 0 to {last}")


@cli.command()
@_selection("experiment")
@click.option("--dataset", type=click.IntRange(min=0), help="Index of the dataset.")
@click.option("--output", type=PATH, help="File to write (.npz).")
def dataset(
    config: Path,
    scale: str | None,
    experiment: str | None,
    specification: str | None,
    dataset: int | None,
    output: Path | None,
) -> None:
    """Draw what is random in one dataset: inputs and teacher, or an order of the pairs.

    The dataset is a function of the experiment's name, its seed and the index alone; it is shared
    by all noises and all cubic strengths.
    """
    from grokphase.datasets import write_dataset

    wanted: AnyDatasetSpecification
    if specification is None:
        settings = _configuration(config, scale)
        scale = settings.scale
        _needed(settings, experiment, dataset=None if dataset is None else str(dataset))
        assert experiment is not None
        assert dataset is not None
        _check_datasets("dataset", settings, experiment, range(dataset, dataset + 1))
        wanted = settings.dataset(experiment, dataset)
    else:
        wanted = _parse(AnyDatasetSpecification, specification)
    where = Layout(scale).dataset(wanted.experiment, wanted.dataset)
    write_dataset(wanted, output or Path(where))


@cli.command()
@_selection("experiment", "point")
@click.option("--datasets", required=True, help="Range of datasets to train on, such as 0-4.")
@click.option("--dataset-files", help="Space-separated dataset files, in the order of --datasets.")
@click.option("--output", type=PATH, help="Shard to write (.parquet).")
@click.option("--checkpoints", type=PATH, help="Folder for the state of the unfinished job.")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Least time between two checkpoints.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads JAX computes with on a CPU.",
)
@click.option(
    "--code-digest", help="Version of the code, part of the provenance.  [default: as it is now]"
)
def train(
    config: Path,
    scale: str | None,
    experiment: str | None,
    point: str | None,
    specification: str | None,
    datasets: str,
    dataset_files: str | None,
    output: Path | None,
    checkpoints: Path | None,
    checkpoint_seconds: float,
    threads: int,
    code_digest: str | None,
) -> None:
    """Train the networks of one point of a sweep on a range of datasets, and write one shard.

    Every network is sampled from its posterior: burn-in, then the configured number of draws of
    the scalar observables, and counts of the overlap q of every neuron in fine bins. Weights are
    not kept.

    \b
    An interrupted job that is run again continues from its checkpoint, and its shard is byte for
    byte that of an uninterrupted one. After SIGTERM, SIGUSR1 or Ctrl-C it saves its state and ends
    with exit status 75: run it again. The dynamics of a network depend only on the experiment, its
    seed, the point, the dataset, the kind of start and the network's index: neither on the range
    given here nor on what else runs.

    \b
    Example:
      grokphase dataset --scale quick --experiment teacher_student --dataset 0
      grokphase train --scale quick --experiment teacher_student \\
          --point noise~0.25/cubic_strength~-0.3 --datasets 0-0
    """
    _configure_jax(threads, Path(Layout(scale).root))
    from grokphase.sampling.program_identity import package_digest

    # Before the modules are imported.
    package_digest()
    from grokphase import provenance
    from grokphase.sampling import kernels
    from grokphase.training import train as run

    indices = _parse_range("--datasets", datasets)
    if specification is None:
        settings = _configuration(config, scale)
        scale = settings.scale
        _needed(settings, experiment, point=point)
        assert experiment is not None
        assert point is not None
        wanted = settings.training(experiment, point)
        _check_datasets("datasets", settings, experiment, indices)
    else:
        wanted = _parse(TrainingSpecification, specification)
    kernel = wanted.kernel.get("kernel")
    if kernel not in kernels.names():
        raise GrokphaseError(f"--specification: there is no kernel {kernel!r}")
    layout = Layout(scale)
    if dataset_files is None:
        files = [Path(layout.dataset(wanted.experiment, i)) for i in indices]
    else:
        files = [Path(name) for name in dataset_files.split()]
    if len(files) != len(indices):
        raise GrokphaseError(
            f"--dataset-files names {len(files)} files for the {len(indices)} datasets {datasets}"
        )
    modules = provenance.training_modules(wanted.model, kernel)
    run(
        wanted,
        dict(zip(indices, files, strict=True)),
        output or Path(layout.shard(wanted.experiment, wanted.point, range_name(indices))),
        checkpoints or Path(layout.checkpoints(wanted.experiment)),
        code_digest or provenance.code_digest(*modules),
        checkpoint_seconds,
        _program_folder(),
    )


@cli.command()
@_selection("experiment", "point")
@click.option("--shards", help="Space-separated shards of the point.")
@click.option("--output-folder", type=PATH, help="Folder of the tables.")
@click.option("--checkpoints", type=PATH, help="Folder of the states of the training jobs.")
def aggregate(
    config: Path,
    scale: str | None,
    experiment: str | None,
    point: str | None,
    specification: str | None,
    shards: str | None,
    output_folder: Path | None,
    checkpoints: Path | None,
) -> None:
    """Combine the shards of one point into its tables: histogram, outputs, chains, ...

    The states of their finished training jobs are then deleted.
    """
    from grokphase.sampling.checkpoint import checkpoint_of
    from grokphase.storage import provenance

    if specification is None:
        settings = _configuration(config, scale)
        scale = settings.scale
        _needed(settings, experiment, point=point)
        assert experiment is not None
        assert point is not None
        wanted = settings.aggregation(experiment, point)
        layout = Layout(scale)
        ranges = settings.experiments[experiment].shards()
        files = [Path(layout.shard(experiment, point, range_name(r))) for r in ranges]
        folder = output_folder or Path(layout.aggregate(experiment, point, "x")).parent
        checkpoints = checkpoints or Path(layout.checkpoints(experiment))
    else:
        wanted = _parse(AggregationSpecification, specification)
        if shards is None or output_folder is None:
            raise GrokphaseError("--specification needs --shards and --output-folder")
        files, folder = [], output_folder
    if shards is not None:
        files = [Path(name) for name in shards.split()]
    if not files:
        raise GrokphaseError("--shards names no file")
    module = importlib.import_module(f"grokphase.{AGGREGATION_STAGES[wanted.model]}")
    module.aggregate(wanted, files, *(folder / f"{t}.parquet" for t in AGGREGATES[wanted.model]))
    if checkpoints is not None:
        for file in files:
            checkpoint_of(checkpoints, provenance(file)).remove()


@cli.command()
@_selection("experiment")
@click.option("--chains", help="Space-separated chains of the points.")
@click.option("--table", type=PATH, help="Table to write (.parquet).")
@click.option("--page", type=PATH, help="Page to write (.md).")
def summary(
    config: Path,
    scale: str | None,
    experiment: str | None,
    specification: str | None,
    chains: str | None,
    table: Path | None,
    page: Path | None,
) -> None:
    """Judge the convergence of all points of an experiment."""
    from grokphase.summary import summarise

    if specification is None:
        settings = _configuration(config, scale)
        scale = settings.scale
        _needed(settings, experiment)
        assert experiment is not None
        wanted = settings.summary(experiment)
    else:
        wanted = _parse(SummarySpecification, specification)
    layout = Layout(scale)
    if chains is None:
        files = [
            Path(layout.aggregate(wanted.experiment, point, "chains")) for point in wanted.points
        ]
    else:
        files = [Path(name) for name in chains.split()]
    if not files:
        raise GrokphaseError("--chains names no file")
    summarise(
        wanted,
        files,
        table or Path(layout.summary(wanted.experiment, "parquet")),
        page or Path(layout.summary(wanted.experiment, "md")),
    )


@cli.command()
@_selection("experiment", "line")
@click.option("--output-folder", type=PATH, help="Folder of the tables.")
def theory(
    config: Path,
    scale: str | None,
    experiment: str | None,
    line: str | None,
    specification: str | None,
    output_folder: Path | None,
) -> None:
    """Solve the mean-field theory along a line of noise values: all branches, all closures."""
    wanted: AnyTheorySpecification
    if specification is None:
        settings = _configuration(config, scale)
        _needed(settings, experiment, line=line)
        assert experiment is not None
        assert line is not None
        wanted = settings.theory(experiment, line)
        layout = Layout(settings.scale)
        folder = output_folder or Path(layout.theory(experiment, line, "x")).parent
    else:
        wanted = _parse(AnyTheorySpecification, specification)
        if output_folder is None:
            raise GrokphaseError("--specification needs --output-folder")
        folder = output_folder
    module = importlib.import_module(f"grokphase.{THEORY_STAGES[wanted.model]}")
    module.predict(wanted, *(folder / f"{table}.parquet" for table in THEORY_TABLES[wanted.model]))


@cli.command()
@_selection("experiment")
@click.option("--dataset", type=click.IntRange(min=0), help="Index of the dataset.")
@click.option("--dataset-file", type=PATH, help="The dataset's file.")
@click.option("--output", type=PATH, help="Table to write (.parquet).")
def baseline(
    config: Path,
    scale: str | None,
    experiment: str | None,
    specification: str | None,
    dataset: int | None,
    dataset_file: Path | None,
    output: Path | None,
) -> None:
    """Gaussian-process regression (the network at infinite width) on one dataset."""
    from grokphase.baseline import predict_baseline

    if specification is None:
        settings = _configuration(config, scale)
        scale = settings.scale
        _needed(settings, experiment, dataset=None if dataset is None else str(dataset))
        assert experiment is not None
        assert dataset is not None
        wanted = settings.baseline(experiment, dataset)
        _check_datasets("dataset", settings, experiment, range(dataset, dataset + 1))
    else:
        wanted = _parse(BaselineSpecification, specification)
    layout = Layout(scale)
    predict_baseline(
        wanted,
        dataset_file or Path(layout.dataset(wanted.experiment, wanted.dataset)),
        output or Path(layout.baseline(wanted.experiment, wanted.dataset)),
    )


@cli.command()
@_selection("figure")
@click.option("--results", type=PATH, help="Folder of the experiment's results.")
@click.option("--output-folder", type=PATH, help="Folder of the figure.")
def figure(
    config: Path,
    scale: str | None,
    figure: str | None,
    specification: str | None,
    results: Path | None,
    output_folder: Path | None,
) -> None:
    """Draw one figure from aggregates and theory, as PDF, SVG and PNG."""
    from grokphase.drawing import draw

    if specification is None:
        settings = _configuration(config, scale)
        scale = settings.scale
        if figure is None:
            raise GrokphaseError("--figure is missing (or give --specification)")
        if figure not in settings.figures:
            raise GrokphaseError(
                f"--figure: there is no figure {figure!r}; the configuration has "
                f"{', '.join(settings.figures)}"
            )
        wanted = settings.figure(figure)
    else:
        wanted = _parse(FigureSpecification, specification)
    layout = Layout(scale)
    folder = output_folder or Path(layout.figure(wanted.figure, "x")).parent
    draw(
        wanted,
        results or Path(layout.base) / wanted.experiment,
        [folder / f"{wanted.figure}.{suffix}" for suffix in FIGURE_SUFFIXES],
    )


@cli.command()
@click.option(
    "--config",
    type=PATH,
    default=Path("config.yaml"),
    show_default=True,
    help="Configuration file; changes on top of config.yaml if it is another one.",
)
@click.option("--scale", help=SCALE_HELP)
def check(config: Path, scale: str | None) -> None:
    """Validate a configuration file and say what it asks for."""
    settings = _configuration(config, scale)
    for name, one in settings.experiments.items():
        if not one.trains:
            click.echo(f"{name}: {len(one.points())} points, theory only")
            continue
        networks = len(one.points()) * one.datasets * len(one.networks.starts())
        click.echo(
            f"{name}: {len(one.points())} points, {networks} networks in "
            f"{len(one.points()) * len(one.shards())} training jobs"
        )
    click.echo(f"figures: {', '.join(settings.figures)}")
    for text in settings.warnings():
        click.echo(f"Warning: {text}")


@cli.command()
@click.argument("targets", nargs=-1)
@click.option(
    "--config",
    type=PATH,
    default=Path("config.yaml"),
    show_default=True,
    help="Configuration file; changes on top of config.yaml if it is another one.",
)
@click.option("--scale", help=SCALE_HELP)
@click.option("--profile", type=PATH, help="Folder of the profile of a cluster.")
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    help="Cores of this machine, without a cluster.",
)
def estimate(
    targets: tuple[str, ...], config: Path, scale: str | None, profile: Path | None, cores: int
) -> None:
    """What making TARGETS (all by default) still takes: jobs, time, memory and disk.

    Nothing is run but a computation of some seconds, which measures how fast this machine is; on a
    cluster, the times are those of nodes as fast as it.
    """
    from grokphase import estimation, machine
    from grokphase.configuration.messages import unknown

    settings = _configuration(config, scale)
    names = ("all", *settings.figures)
    for target in targets:
        if "/" not in target and target not in names:
            raise GrokphaseError(unknown("TARGETS", target, "target", names))
    chosen = estimation.read_profile(profile, cores)
    planned = estimation.planned_jobs(targets or ("all",), settings.scale, config)
    jobs = estimation.jobs_to_do(planned, settings, chosen.cores)
    click.echo(estimation.report(jobs, chosen, machine.slowness(chosen.cores)))


@cli.command()
@click.option(
    "--config",
    type=PATH,
    default=Path("config.yaml"),
    show_default=True,
    help="Configuration file; changes on top of config.yaml if it is another one.",
)
@click.option("--scale", help=SCALE_HELP)
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    help="Jobs that run at a time; by default those that run now.",
)
def status(config: Path, scale: str | None, cores: int | None) -> None:
    """Training jobs done, running, failed, slow, waiting and outdated at every point, and the end.

    Only files are read: it works beside a run, here or on a cluster.
    """
    from grokphase import estimation

    now = time.time()
    points = estimation.progress(_configuration(config, scale), now)
    names = estimation.STATES
    width = max((len(f"{one.experiment}/{one.point}") for one in points), default=0)
    click.echo(f"{'point':{width}}  " + "  ".join(names))
    for one in points:
        row = "  ".join(f"{getattr(one, name):>{len(name)}}" for name in names)
        click.echo(f"{one.experiment + '/' + one.point:{width}}  {row}")
    total = {name: sum(getattr(one, name) for one in points) for name in names}
    click.echo("; ".join(f"{total[name]} {name}" for name in names))
    workers = cores or total["running"] + total["slow"]
    remaining = sum(one.remaining for one in points)
    if remaining and workers:
        end = time.strftime("%Y-%m-%d %H:%M", time.localtime(now + remaining / workers))
        click.echo(
            f"training ends in about {estimation.duration(remaining / workers)}, at {end}, with "
            f"{workers} jobs at a time"
        )
    elif remaining:
        click.echo(f"no training job runs; {estimation.duration(remaining)} of one core remain")


def _parse(kind: Any, text: str) -> Any:
    """The specification given as JSON."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'text'}: {one['msg']}" for one in error.errors()
        )
        raise GrokphaseError(f"--specification: {problems}") from None


def _parse_range(option: str, text: str) -> range:
    try:
        indices = parse_range(text)
    except ValueError:
        indices = range(0)
    if not indices:
        raise GrokphaseError(f"{option}: {text!r} is not a range such as 0-4 or a number")
    return indices


def _configure_jax(threads: int, results: Path) -> None:
    """Set the number of threads and the cache of compiled programs, before JAX is imported.

    Factorisations of matrices have threads of their own, those of the library of linear algebra.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    flags = [SHORT_PROGRAM_FLAGS, ONE_THREAD_FLAGS if threads == 1 else ""]
    # Of a flag that is given twice the last one counts: the user's.
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()
    os.environ["NPROC"] = str(threads)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(default_cache(str(results)).resolve()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _program_folder() -> Path | None:
    """Where compiled programs are kept: where JAX keeps its own, if that is a folder."""
    name = os.environ["JAX_COMPILATION_CACHE_DIR"]
    return Path(name) if name and "://" not in name else None


class _NoPandas:
    """Finder of modules that hides pandas from a process.

    pyarrow imports it with the first array, only to know a series when it sees one: 0.2 to 0.35 s
    of a stage that has none.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is for figures alone", name=name)


def main() -> None:
    """Entry point of the command ``grokphase``."""
    if sys.argv[1:2] != ["figure"]:
        sys.meta_path.insert(0, _NoPandas)
    # Looking for cyclic garbage takes 0.05 s of the imports of a stage, and at its end 0.15 s.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    cli(prog_name="grokphase")
