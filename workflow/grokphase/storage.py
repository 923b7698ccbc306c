"""Tables on disk: written whole, with what they were made with, and checked when they are read."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from grokphase.errors import GrokphaseError
from grokphase.files import replaced

ROW_GROUP_BYTES = 2**22
"""Bytes of a table that are read at once, the least that Parquet decodes of a list column."""


def write_table(path: Path, table: pa.Table, provenance: dict[str, Any]) -> None:
    """Write a Parquet file with `provenance` in its schema metadata; equal input, equal bytes.

    A table larger than ROW_GROUP_BYTES has row groups of about that size, or of one row.
    """
    text = json.dumps(provenance, sort_keys=True)
    rows = max(1, table.num_rows * ROW_GROUP_BYTES // max(1, table.nbytes))
    with replaced(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata({"grokphase": text}),
            temporary,
            row_group_size=rows,
            compression="zstd",
            write_page_checksum=True,
        )


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file written by `write_table` and check it against `schema`.

    With `columns`, only those. Raises GrokphaseError if it is missing, truncated, damaged or of
    another layout.
    """
    with _checked(path, schema) as file:
        return file.read(columns=columns)


def iterate_rows(path: Path, schema: pa.Schema, column: str) -> Iterator[NDArray[Any]]:
    """The values of a list column row by row, holding one row group at a time.

    Raises GrokphaseError like `read_table`.
    """
    with _checked(path, schema) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=[column], use_threads=False)
            for row in rows[column].combine_chunks():
                yield row.values.to_numpy()


@contextlib.contextmanager
def _checked(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """An open file of this schema; damage found while the block reads it is named too."""
    try:
        # A buffer makes columns arrive in pieces instead of whole.
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=2**16) as file:
            found = file.schema_arrow
            if found.equals(schema):
                yield file
                return
    except FileNotFoundError as error:
        raise GrokphaseError(f"{path} does not exist; run the stage that writes it") from error
    except Exception as error:  # Damage can surface as almost anything.
        raise _damaged(path, error) from error
    raise GrokphaseError(
        f"{path} does not have the columns this version writes (found "
        f"{', '.join(found.names)}; expected {', '.join(schema.names)}); delete it and "
        "run again"
    )


def _damaged(path: Path, error: Exception) -> GrokphaseError:
    if path.suffix not in (".parquet", ""):
        return GrokphaseError(f"{path} is no Parquet file; name one that a stage has written")
    return GrokphaseError(
        f"{path} is truncated or damaged ({str(error).splitlines()[0]}); delete it and run again: "
        "only this file is made anew"
    )


def provenance(path: Path) -> dict[str, Any]:
    """What `write_table` recorded beside the table; raises GrokphaseError if that is damaged."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return dict(json.loads(metadata.get(b"grokphase", b"{}")))
    except Exception as error:  # Damage can surface as almost anything.
        raise _damaged(path, error) from error
