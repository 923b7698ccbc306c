"""The dataset stage: what is random in the data, one file per dataset.

Gaussian inputs and a teacher direction for the teacher-student model, a random order of the P^2
pairs for modular addition.
"""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from grokphase.errors import GrokphaseError
from grokphase.files import replaced
from grokphase.specifications.dataset import (
    AnyDatasetSpecification,
    DatasetSpecification,
    PairOrderSpecification,
)


class Dataset(NamedTuple):
    """inputs [n, d] ~ N(0, 1) and the teacher direction [d] of unit norm, both float32."""

    inputs: NDArray[np.float32]
    teacher: NDArray[np.float32]


class PairOrder(NamedTuple):
    """rank [P, P]: place of the pair (n, m) in a random order of all P^2 pairs, from 0."""

    rank: NDArray[np.int32]


@overload
def generate_dataset(specification: DatasetSpecification) -> Dataset: ...
@overload
def generate_dataset(specification: PairOrderSpecification) -> PairOrder: ...
def generate_dataset(specification: AnyDatasetSpecification) -> Dataset | PairOrder:
    """Draw a dataset; its stream is a function of experiment, seed and dataset index alone."""
    name = f"{specification.experiment}/{specification.seed}/{specification.dataset}"
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    generator = np.random.Generator(np.random.PCG64(entropy))
    if isinstance(specification, PairOrderSpecification):
        order = generator.permutation(specification.prime**2).astype(np.int32)
        return PairOrder(order.reshape(specification.prime, specification.prime))
    teacher = generator.standard_normal(specification.input_dim)
    inputs = generator.standard_normal((specification.train_size, specification.input_dim))
    return Dataset(
        inputs.astype(np.float32), (teacher / np.linalg.norm(teacher)).astype(np.float32)
    )


def write_dataset(specification: AnyDatasetSpecification, output: Path) -> None:
    """Generate a dataset and write it with its specification."""
    dataset = generate_dataset(specification)
    buffer = io.BytesIO()
    np.savez(buffer, **dataset._asdict(), specification=specification.model_dump_json())
    with replaced(output) as temporary:
        temporary.write_bytes(buffer.getvalue())


def require_dataset(path: Path) -> None:
    """Raises GrokphaseError if there is no such file, or none that may be looked at."""
    try:
        path.stat()
    except FileNotFoundError as error:
        raise GrokphaseError(f"{path} does not exist; run the dataset stage first") from error
    except OSError as error:
        raise GrokphaseError(f"{path} cannot be read: {error.strerror}") from error


@overload
def read_dataset(path: Path, specification: DatasetSpecification) -> Dataset: ...
@overload
def read_dataset(path: Path, specification: PairOrderSpecification) -> PairOrder: ...
def read_dataset(path: Path, specification: AnyDatasetSpecification) -> Dataset | PairOrder:
    """Read a dataset and check that it is the one wanted.

    Raises GrokphaseError if it is missing, damaged or was made with other parameters.
    """
    require_dataset(path)
    try:
        with np.load(path) as arrays:
            found = str(arrays["specification"])
            kind = PairOrder if isinstance(specification, PairOrderSpecification) else Dataset
            dataset = kind(*(arrays[name] for name in kind._fields))
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
