"""Datasets: a function of their identity, and refused when damaged or of other parameters."""

from collections import Counter

import numpy as np
import pytest
from grokphase.datasets import generate_dataset, read_dataset, write_dataset
from grokphase.errors import GrokphaseError
from grokphase.specifications.dataset import DatasetSpecification
from scipy.stats import kstest

SMALL = DatasetSpecification(experiment="e", seed=1, dataset=2, input_dim=4, train_size=6)


def changed(**values):
    return SMALL.model_copy(update=values)


def test_round_trip_and_equal_bytes(tmp_path):
    write_dataset(SMALL, tmp_path / "a.npz")
    write_dataset(SMALL, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    read, made = read_dataset(tmp_path / "a.npz", SMALL), generate_dataset(SMALL)
    np.testing.assert_array_equal(read.inputs, made.inputs)
    np.testing.assert_array_equal(read.teacher, made.teacher)
    assert read.inputs.dtype == read.teacher.dtype == np.float32


def test_inputs_are_gaussian_and_the_teacher_a_unit_vector():
    """Kolmogorov-Smirnov on 200 000 inputs (false alarm 1e-5)."""
    dataset = generate_dataset(changed(input_dim=100, train_size=2000))
    assert kstest(dataset.inputs.ravel(), "norm").pvalue > 1e-5
    assert np.linalg.norm(dataset.teacher.astype(float)) == pytest.approx(1, abs=1e-6)


def test_teachers_are_isotropic():
    """Mean and second moment of 2000 teachers, 5 standard errors (false alarm < 1e-4)."""
    teachers = np.array([generate_dataset(changed(dataset=i)).teacher for i in range(2000)])
    assert np.abs(teachers.mean(axis=0)).max() < 5 * 0.5 / np.sqrt(2000)
    # Var(t^2) of one component of a unit vector is 2 (d - 1) / (d^2 (d + 2)) = 1/16 for d = 4.
    assert np.abs((teachers**2).mean(axis=0) - 0.25).max() < 5 * 0.25 / np.sqrt(2000)


@pytest.mark.parametrize(
    "other", [{"experiment": "f"}, {"seed": 2}, {"dataset": 3}, {"dataset": 21}]
)
def test_datasets_of_two_identities_are_unrelated(other):
    """Correlation of 40 000 inputs below 5 standard errors (false alarm < 1e-6)."""
    large = {"input_dim": 40, "train_size": 1000}
    first = generate_dataset(changed(**large)).inputs.ravel()
    second = generate_dataset(changed(**large, **other)).inputs.ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_values_are_stable():
    """These values may never change: published results depend on them."""
    dataset = generate_dataset(SMALL)
    np.testing.assert_allclose(dataset.inputs[0, :2], [0.6273149, -2.0304236], rtol=1e-6)


@pytest.mark.parametrize(
    "other",
    [{"experiment": "f"}, {"seed": 2}, {"dataset": 3}, {"input_dim": 5}, {"train_size": 7}],
)
def test_a_dataset_of_other_parameters_is_refused(tmp_path, other):
    write_dataset(SMALL, tmp_path / "a.npz")
    with pytest.raises(GrokphaseError, match=r"a\.npz was made with other parameters"):
        read_dataset(tmp_path / "a.npz", changed(**other))


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(GrokphaseError, match=r"a\.npz does not exist"):
        read_dataset(tmp_path / "a.npz", SMALL)


def test_damage_is_found_and_named(tmp_path, damaged_copies):
    """1000 damaged files: each is refused by name, or what was damaged is no part of the data."""
    path = tmp_path / "a.npz"
    write_dataset(SMALL, path)
    made, results = generate_dataset(SMALL), Counter()
    for content in damaged_copies(path.read_bytes(), 1000, seed=3):
        path.write_bytes(content)
        try:
            read = read_dataset(path, SMALL)
        except GrokphaseError as error:
            results["refused" if str(path) in str(error) else "not named"] += 1
        except Exception as error:  # the traceback a user would see
            results[type(error).__name__] += 1
        else:
            same = all(np.array_equal(a, b) for a, b in zip(read, made, strict=True))
            results["harmless" if same else "wrong data"] += 1
    assert results.keys() == {"refused", "harmless"}, results
