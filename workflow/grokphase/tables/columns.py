"""Columns of tables as arrays."""

from typing import Any

import pyarrow as pa
from numpy.typing import NDArray


def matrix(table: pa.Table, column: str) -> NDArray[Any]:
    """A list column of equal lengths as an array [rows, length]."""
    values = table[column].combine_chunks()
    flat = values.flatten().to_numpy()
    return flat.reshape(len(values), len(flat) // len(values))
