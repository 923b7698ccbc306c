"""Benchmarks that make tables of their own make them as the pipeline does now; nothing is timed."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def aggregation(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("aggregation")


def test_the_shards_of_the_benchmark_are_aggregated(aggregation, tmp_path):
    found = aggregation.measure(20, tmp_path)
    assert found["neurons_per_network"] == 20 * aggregation.WIDTH
    assert found["peak_mib"] > 50
    assert {path.stem for path in tmp_path.glob("*.parquet")} >= {"histogram", "chains"}
