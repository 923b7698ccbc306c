import os
import sys
from pathlib import Path

from grokphase.config import load_config
from grokphase.errors import GrokphaseError
from grokphase.layout import (
    AGGREGATES,
    FIGURE_SUFFIXES,
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


wildcard_constraints:
    experiment="[a-z][a-z0-9_]*",
    point="all|[a-z_]+~[^/~]+(/[a-z_]+~[^/~]+)*",
    line="all|[a-z_]+~[^/~]+(/[a-z_]+~[^/~]+)*",
    dataset=r"\d+",
    datasets=r"\d+-\d+",


def figure_files(name):
    return [LAYOUT.figure(name, suffix) for suffix in FIGURE_SUFFIXES]
