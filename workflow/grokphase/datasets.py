"""The dataset stage: Gaussian inputs and a teacher direction, one file per dataset."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase.errors import GrokphaseError
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.storage import replaced


class Dataset(NamedTuple):
    """inputs [n, d] ~ N(0, 1) and the teacher direction [d] of unit norm, both float32."""

    inputs: NDArray[np.float32]
    teacher: NDArray[np.float32]


def generate_dataset(specification: DatasetSpecification) -> Dataset:
    """Draw a dataset; its stream is a function of experiment, seed and dataset index alone."""
    name = f"{specification.experiment}/{specification.seed}/{specification.dataset}"
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    generator = np.random.Generator(np.random.PCG64(entropy))
    teacher = generator.standard_normal(specification.input_dim)
    inputs = generator.standard_normal((specification.train_size, specification.input_dim))
    return Dataset(
        inputs.astype(np.float32), (teacher / np.linalg.norm(teacher)).astype(np.float32)
    )


def write_dataset(specification: DatasetSpecification, output: Path) -> None:
    """Generate a dataset and write it with its specification."""
    dataset = generate_dataset(specification)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        inputs=dataset.inputs,
        teacher=dataset.teacher,
        specification=specification.model_dump_json(),
    )
    with replaced(output) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_dataset(path: Path, specification: DatasetSpecification) -> Dataset:
    """Read a dataset and check that it is the one wanted.

    Raises GrokphaseError if it is missing, damaged or was made with other parameters.
    """
    try:
        with np.load(path) as arrays:
            found = str(arrays["specification"])
            dataset = Dataset(arrays["inputs"], arrays["teacher"])
    except FileNotFoundError as error:
        raise GrokphaseError(f"{path} does not exist; run the dataset stage first") from error
    except Exception as error:  # Damage can surface as almost anything.
        raise GrokphaseError(
            f"{path} is truncated or damaged ({error}); delete it and run again"
        ) from error
    wanted = specification.model_dump_json()
    if found != wanted:
        raise GrokphaseError(
            f"{path} was made with other parameters: it holds {found}, but {wanted} is wanted; "
            "delete it and run again"
        )
    return dataset
