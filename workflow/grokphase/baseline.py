"""The baseline stage: Gaussian-process regression, the infinitely wide network, on one dataset."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from grokphase.datasets import read_dataset
from grokphase.errors import GrokphaseError
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.theory import BaselineSpecification
from grokphase.storage import write_table
from grokphase.tables import theory as tables
from grokphase.theory.gaussian_process import predict_overlaps


def predict_baseline(
    specification: BaselineSpecification, dataset_file: Path, output: Path
) -> None:
    """Write the overlaps of the Gaussian process's mean at all noises and cubic strengths.

    Raises GrokphaseError for a dataset of other parameters, and for a noise that is lost in the
    rounding of the kernel.
    """
    parameters = specification.parameters
    dataset = read_dataset(
        dataset_file,
        DatasetSpecification(
            experiment=specification.experiment,
            seed=specification.seed,
            dataset=specification.dataset,
            input_dim=parameters.input_dim,
            train_size=parameters.train_size,
        ),
    )
    teacher = dataset.teacher.astype(np.float64)
    try:
        overlaps = predict_overlaps(
            dataset.inputs,
            teacher / np.linalg.norm(teacher),
            specification.noises,
            specification.cubic_strengths,
            parameters,
        )
    except ValueError as error:
        raise GrokphaseError(
            f"Gaussian-process regression on dataset {specification.dataset}: {error}; see "
            f"sweep.noise and parameters in experiments.{specification.experiment}"
        ) from error
    noise, strength = np.meshgrid(
        specification.noises, specification.cubic_strengths, indexing="ij"
    )
    table = pa.Table.from_pydict(
        {
            "noise": noise.ravel(),
            "cubic_strength": strength.ravel(),
            "linear_overlap": overlaps.linear.ravel(),
            "cubic_overlap": overlaps.cubic.ravel(),
        },
        schema=tables.BASELINE,
    )
    write_table(output, table, specification.model_dump(mode="json"))
