"""Tables on disk, and errors that name them."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from grokphase import storage
from grokphase.errors import GrokphaseError

SCHEMA = pa.schema([("name", pa.string()), ("values", pa.list_(pa.float32())), ("n", pa.int64())])


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    return pa.Table.from_pydict(
        {
            "name": [f"row {i}" for i in range(20)],
            "values": list(generator.standard_normal((20, 30)).astype(np.float32)),
            "n": generator.integers(0, 1000, 20),
        },
        schema=SCHEMA,
    )


def test_round_trip_with_provenance(tmp_path, table):
    path = tmp_path / "new" / "folder" / "table.parquet"
    storage.write_table(path, table, {"noise": 0.18})
    assert storage.read_table(path, SCHEMA).equals(table)
    assert storage.provenance(path) == {"noise": 0.18}
    assert [p.name for p in path.parent.iterdir()] == ["table.parquet"]


def test_equal_input_gives_equal_bytes(tmp_path, table):
    first, second = tmp_path / "first", tmp_path / "second"
    storage.write_table(first, table, {"a": 1, "b": [2.5]})
    storage.write_table(second, table, {"b": [2.5], "a": 1})
    assert first.read_bytes() == second.read_bytes()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(GrokphaseError, match=r"absent\.parquet does not exist"):
        storage.read_table(tmp_path / "absent.parquet", SCHEMA)


def test_another_layout_is_named(tmp_path, table):
    path = tmp_path / "table.parquet"
    storage.write_table(path, table.drop_columns("n"), {})
    with pytest.raises(GrokphaseError, match=r"table\.parquet does not have the columns"):
        storage.read_table(path, SCHEMA)


@pytest.mark.parametrize("keep", [0, 3, 1000, -1])
def test_a_truncated_file_is_named(tmp_path, table, keep):
    path = tmp_path / "table.parquet"
    storage.write_table(path, table, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(GrokphaseError, match=r"table\.parquet is truncated or damaged"):
        storage.read_table(path, SCHEMA)


def test_damage_is_found_and_named(tmp_path, table, damaged_copies):
    """600 damaged files: each is refused by name, or what was damaged is no part of the table."""
    path = tmp_path / "table.parquet"
    storage.write_table(path, table, {"noise": 0.18})
    results = Counter()
    for content in damaged_copies(path.read_bytes(), 600, seed=2):
        path.write_bytes(content)
        try:
            read = storage.read_table(path, SCHEMA)
        except GrokphaseError as error:
            results["refused" if str(path) in str(error) else "not named"] += 1
        except Exception as error:  # the traceback a user would see
            results[type(error).__name__] += 1
        else:
            results["harmless" if read.equals(table) else "wrong data"] += 1
    assert results.keys() == {"refused", "harmless"}, results
