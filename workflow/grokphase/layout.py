"""Where every file of a run lies: results/<scale>/<experiment>/..., results/<scale>/figures/..."""

from pathlib import Path

from grokphase.processor import processor_digest

DEFAULT_SCALE = "paper"


class Layout:
    """Paths below the results of one scale, by default the paper's, as strings that may hold
    Snakemake wildcards."""

    def __init__(self, scale: str | None, root: str = "results") -> None:
        self.root = root
        self.base = f"{root}/{scale or DEFAULT_SCALE}"

    def dataset(self, experiment: str, dataset: int | str) -> str:
        """Inputs and teacher of one dataset."""
        return f"{self.base}/{experiment}/datasets/dataset~{dataset}.npz"

    def shard(self, experiment: str, point: str, datasets: str) -> str:
        """Networks of one point on a range of datasets named ``first-last``."""
        return f"{self.base}/{experiment}/{point}/shards/datasets~{datasets}.parquet"

    def aggregate(self, experiment: str, point: str, table: str) -> str:
        """One table of one point, see AGGREGATES."""
        return f"{self.base}/{experiment}/{point}/{table}.parquet"

    def summary(self, experiment: str, suffix: str) -> str:
        """Diagnostics of all points: a table (parquet) and a page (md)."""
        return f"{self.base}/{experiment}/diagnostics.{suffix}"

    def theory(self, experiment: str, line: str, table: str) -> str:
        """One table along one line of noise values, see THEORY_TABLES."""
        return f"{self.base}/{experiment}/theory/{line}/{table}.parquet"

    def baseline(self, experiment: str, dataset: int | str) -> str:
        """Gaussian-process regression on one dataset."""
        return f"{self.base}/{experiment}/baseline/dataset~{dataset}.parquet"

    def figure(self, figure: str, suffix: str) -> str:
        """One figure in one format."""
        return f"{self.base}/figures/{figure}.{suffix}"

    def checkpoints(self, experiment: str) -> str:
        """Folder of the states of unfinished training jobs."""
        return f"{self.base}/{experiment}/checkpoints"

    def log(self, name: str) -> str:
        """Log of one job."""
        return f"{self.base}/logs/{name}.log"

    def benchmark(self, name: str) -> str:
        """Time and memory of one job."""
        return f"{self.base}/benchmarks/{name}.tsv"


AGGREGATES = {
    "teacher_student": ("histogram", "outputs", "chains"),
    "modular_addition": ("histogram", "outputs", "starts", "neurons", "eigenvalues", "chains"),
}
"""Tables of a point, by model."""

THEORY_TABLES = {
    "teacher_student": ("branches", "densities", "transitions"),
    "modular_addition": ("branches", "landscapes", "densities", "transitions", "spectrum"),
}
"""Tables of a line of noises, by model."""

AGGREGATION_STAGES = {
    "teacher_student": "aggregation",
    "modular_addition": "modular_aggregation",
}
"""Module of the aggregation stage, by model."""

THEORY_STAGES = {"teacher_student": "prediction", "modular_addition": "modular_prediction"}
"""Module of the theory stage, by model."""

FIGURE_SUFFIXES = ("pdf", "svg", "png")


def range_name(datasets: range) -> str:
    """``first-last`` of a range of datasets."""
    return f"{datasets.start}-{datasets.stop - 1}"


def parse_range(name: str) -> range:
    """The inverse of `range_name`; a single number is a range of one."""
    first, _, last = name.partition("-")
    return range(int(first), int(last or first) + 1)


def default_cache(root: str) -> Path:
    """Folder of compiled programs, shared by all scales; one for each kind of processor."""
    return Path(root) / ".cache" / "compiled" / processor_digest()[:8]
