import difflib
import os
import sys
from pathlib import Path

from grokphase.config import load_config
from grokphase.errors import GrokphaseError
from grokphase.layout import AGGREGATES, FIGURE_SUFFIXES, THEORY_TABLES, Layout, parse_range
from grokphase.layout import range_name
from grokphase.provenance import code_digest
from snakemake.exceptions import WorkflowError

PYTHON = sys.executable


def checked_config():
    """The validated configuration; a problem ends the run with one message."""
    try:
        return load_config(config)
    except GrokphaseError as error:
        raise WorkflowError(str(error))


CONFIG = checked_config()
LAYOUT = Layout(CONFIG.scale)


def check_results_folder():
    """End the run before any job if the results cannot be written."""
    folder = Path(LAYOUT.base)
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise WorkflowError(
            f"results cannot be written: {folder.resolve()} is not a folder that you may write to; "
            "change its permissions, move it away, or run in another folder with --directory"
        )


def check_targets():
    """End the run with a hint if a target that is no file is not a rule's name."""
    names = sorted({*CONFIG.figures, "all"})
    for target in workflow.dag_settings.targets if workflow.dag_settings else ():
        if target not in names and not os.path.splitext(target)[1]:
            near = difflib.get_close_matches(target, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"targets are {', '.join(names)}"
            raise WorkflowError(f"there is no target {target!r}; {hint}")


check_results_folder()
check_targets()


wildcard_constraints:
    experiment="[a-z][a-z0-9_]*",
    point="all|[a-z_]+~[^/~]+(/[a-z_]+~[^/~]+)*",
    line="all|[a-z_]+~[^/~]+(/[a-z_]+~[^/~]+)*",
    dataset=r"\d+",
    datasets=r"\d+-\d+",


def figure_files(name):
    return [LAYOUT.figure(name, suffix) for suffix in FIGURE_SUFFIXES]
